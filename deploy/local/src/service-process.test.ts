import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ServiceProcess } from "./service-process.ts";

/** Says that it serves, and stays until it is asked to end. */
const SERVICE = `
process.on("SIGTERM", () => process.exit(5));
setInterval(() => {}, 1000);
console.log(JSON.stringify({ msg: "serving", address: "127.0.0.1:1", managementPort: 2, pid: process.pid }));
`;

/** The same with the log of our services, which says a word before it ends. */
const LOGGING_SERVICE = `
const { createLogger } = await import(${JSON.stringify(new URL("../../../packages/service/src/log.ts", import.meta.url).href)});
const log = createLogger("some", "info");
process.on("SIGTERM", () => {
  for (const word of ["asked to end", "draining"]) log.info(word);
  process.exit(5);
});
setInterval(() => {}, 1000);
log.info({ address: "127.0.0.1:1", managementPort: 2 }, "serving");
`;

let folder: string;
let main: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-process-"));
  main = join(folder, "service.mjs");
  await writeFile(main, SERVICE);
});
afterAll(() => rm(folder, { recursive: true }));

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("a service runs until it is stopped, and says how it ended", async () => {
  const service = await ServiceProcess.start({ name: "some", main, flags: {} });
  expect([service.address, service.managementPort, isAlive(service.pid)]).toEqual(["127.0.0.1:1", 2, true]);
  expect(await service.stop()).toBe(5);
});

test("a service that does not come up says why", async () => {
  const broken = join(folder, "broken.mjs");
  await writeFile(broken, `console.log("no such thing"); process.exit(7);`);
  await expect(ServiceProcess.start({ name: "some", main: broken, flags: {} })).rejects.toThrow(
    "some ended with 7:\nno such thing",
  );
});

test.each([
  ["without a word", SERVICE],
  ["with a word in its log, which nobody reads any more", LOGGING_SERVICE],
])("a service whose starter is killed ends by itself, %s", async (_, source) => {
  const starter = join(folder, "starter.ts");
  const orphan = join(folder, "orphan.mjs");
  await writeFile(orphan, source);
  const module = new URL("./service-process.ts", import.meta.url).href;
  await writeFile(
    starter,
    `const { ServiceProcess } = await import(${JSON.stringify(module)});
     const { pid } = await ServiceProcess.start({ name: "some", main: ${JSON.stringify(orphan)}, flags: {} });
     console.log(pid);
     setInterval(() => {}, 1000);`,
  );
  const child = spawn(process.execPath, [starter], { stdio: ["ignore", "pipe", "inherit"] });
  const pid = await new Promise<number>((resolve) =>
    createInterface({ input: child.stdout }).once("line", (line) => resolve(Number(line))),
  );
  expect(isAlive(pid)).toBe(true);
  child.kill("SIGKILL");
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
});
