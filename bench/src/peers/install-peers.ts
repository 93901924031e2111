import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** The packages that are compared with have a lockfile of their own: with all platforms' libraries they take over a gigabyte. */
const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** Install them where they are not yet, as the lockfile says and without running their scripts. */
export async function installPeers(onProgress: (text: string) => void): Promise<void> {
  const { dependencies } = readJson("package.json") as { dependencies: Record<string, string> };
  const missing = Object.entries(dependencies).filter(
    ([name, version]) => !version.startsWith("file:") && installedVersion(name) !== version,
  );
  if (missing.length === 0) return;
  onProgress(`installing ${missing.map(([name, version]) => `${name} ${version}`).join(", ")}: over a gigabyte, once`);
  const exited = new AbortController();
  const abort = () => exited.abort();
  process.prependOnceListener("exit", abort);
  try {
    await promisify(execFile)("npm", ["ci", "--ignore-scripts", "--no-fund", "--no-audit"], {
      cwd: FOLDER,
      signal: exited.signal,
    });
  } finally {
    process.off("exit", abort);
  }
}

function installedVersion(name: string): unknown {
  try {
    return (readJson(`node_modules/${name}/package.json`) as { version: unknown }).version;
  } catch {
    return undefined;
  }
}

function readJson(path: string): unknown {
  return JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"));
}
