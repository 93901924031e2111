/**
 * Adds to the lockfile of a folder the platform packages that npm left out: `node tools/complete-lockfile.ts [FOLDER]`.
 *
 * Native tools name one optional package per platform. A registry mirror that carries only some of them makes `npm install`
 * drop the others from the lockfile without a word, and `npm ci` then refuses the lockfile, on every machine. Their versions are
 * exact in the package that names them, and platform packages depend on nothing: so the entries can be written from there.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

interface LockedPackage {
  version?: string;
  optional?: boolean;
  dev?: boolean;
  os?: string[];
  cpu?: string[];
  libc?: string[];
  optionalDependencies?: Record<string, string>;
}

const LOCKFILE = join(process.argv[2] ?? ".", "package-lock.json");
const EXACT = /^\d+\.\d+\.\d+(-[\w.]+)?$/;
const SYSTEMS = ["android", "darwin", "freebsd", "linux", "openharmony", "win32"];
/** Systems that some packages call otherwise. */
const SYSTEM_NAMES: Record<string, string> = { mac: "darwin", win: "win32" };
const PROCESSORS = ["arm64", "x64", "ia32", "ppc64", "riscv64", "s390x", "arm"];

/** Which machines a package is for, from its name: `@scope/tool-linux-x64-musl`. */
function platformOf(name: string): Pick<LockedPackage, "os" | "cpu" | "libc"> | undefined {
  const words = name.split(/[/-]/);
  const os = words.map((word) => SYSTEM_NAMES[word] ?? word).find((word) => SYSTEMS.includes(word));
  const cpu = PROCESSORS.find((processor) => words.some((word) => word === processor || word === `${processor}v7`));
  if (os === undefined || cpu === undefined) return undefined;
  const libc = words.some((word) => word.startsWith("musl")) ? { libc: ["musl"] } : {};
  return { os: [os], cpu: [cpu], ...libc };
}

const lock = JSON.parse(readFileSync(LOCKFILE, "utf8")) as { packages: Record<string, LockedPackage> };
const added: string[] = [];
for (const { optionalDependencies = {}, dev } of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(optionalDependencies)) {
    const path = `node_modules/${name}`;
    const platform = platformOf(name);
    if (Object.hasOwn(lock.packages, path) || platform === undefined || !EXACT.test(version)) continue;
    lock.packages[path] = { version, ...(dev ? { dev } : {}), optional: true, ...platform };
    added.push(`${name}@${version}`);
  }
}
const [root, ...others] = Object.entries(lock.packages);
lock.packages = Object.fromEntries([root as [string, LockedPackage], ...others.sort(([a], [b]) => (a < b ? -1 : 1))]);
if (added.length > 0) writeFileSync(LOCKFILE, `${JSON.stringify(lock, null, 2)}\n`);
console.log(added.length === 0 ? "the lockfile is complete" : `added ${added.join(", ")}`);
