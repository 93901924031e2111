import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { createLogger, openDevTls, type TlsSource } from "@persona-mesh/service";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  personaState,
  revisionWith,
  revocation,
  TEST_MODEL,
  tenantState,
  versionAlong,
} from "../testing/governed-personas.ts";
import { changeSet, ScriptedRegistry, snapshot } from "../testing/scripted-registry.ts";
import { RegistryPersonas } from "./registry-personas.ts";

const CHILD = fileURLToPath(new URL("../testing/serving-child.ts", import.meta.url));
const GLAD = "tenants/acme/personas/glad";
const X = versionAlong(0);
const glad = revisionWith("glad", X);

let folder: string;
let tls: TlsSource;
let registry: ScriptedRegistry;
let child: ChildProcess | undefined;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-killed-"));
  tls = await openDevTls(folder, "inference", createLogger("test", "silent"));
  registry = new ScriptedRegistry(folder);
  registry.has(X);
  await registry.start();
});
afterEach(async () => {
  child?.kill("SIGKILL");
  tls.close();
  await registry[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

test("revocation seen, kill -9, registry away, cold start from the cache: refused", async () => {
  const cacheFolder = join(folder, "cache");
  const running = spawn(process.execPath, [CHILD, folder, registry.address, cacheFolder, GLAD]);
  child = running;
  const ended = new Promise((resolve) => running.once("exit", (_, signal) => resolve(signal)));
  let answer = "";
  createInterface({ input: running.stdout }).on("line", (line) => {
    answer = line;
    // The moment it has acted: before anything but the revocation can have been written.
    if (line === "VERSION_REVOKED") running.kill("SIGKILL");
  });
  await expect.poll(() => registry.watches.length, { timeout: 20_000 }).toBe(1);
  registry.watch.send(snapshot(10n, [personaState(glad), tenantState({ active: glad })]));
  await expect.poll(() => answer, { timeout: 10_000 }).toBe("served");
  // Long enough for the picture with the persona in it to be on the disk.
  await expect.poll(() => isCached(cacheFolder), { timeout: 10_000 }).toBe(true);
  registry.watch.send(changeSet(10n, 11n, [revocation(X)]));
  expect(await ended).toBe("SIGKILL");
  await registry.kill();

  await using personas = await RegistryPersonas.open(
    {
      address: registry.address,
      tls,
      trustDomain: "persona-mesh",
      worker: "worker-1",
      cacheFolder,
      cacheBytes: 1_000_000,
    },
    TEST_MODEL,
    createLogger("test", "silent"),
  );
  // From the cache, which has the persona: only the revocation keeps it out.
  expect(personas.state.kind).toBe("STALE");
  expect(() => personas.catalog.find("acme", GLAD)).toThrow(expect.objectContaining({ reason: "VERSION_REVOKED" }));
  expect(() => personas.catalog.active("acme")).toThrow(expect.objectContaining({ reason: "VERSION_REVOKED" }));
});

async function isCached(cacheFolder: string): Promise<boolean> {
  const names = await readdir(join(cacheFolder, TEST_MODEL.modelChecksum, "worker-1"));
  return names.includes("state") && names.includes("contact");
}
