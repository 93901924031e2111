import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createLogger } from "@persona-mesh/service";
import { DEFAULT_GUARD_POLICY, decodeGuardBaseline } from "@persona-mesh/steering";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openBaseline } from "./open-baseline.ts";

const STARTER = fileURLToPath(new URL("../../../../models/starter/guard-baseline.json", import.meta.url));

let folder: string;
let lines: string[];
let modelChecksum: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-baseline-"));
  lines = [];
  modelChecksum = decodeGuardBaseline(await readFile(STARTER, "utf8")).modelChecksum;
});
afterEach(() => rm(folder, { recursive: true }));

const open = (configured?: string, model = modelChecksum) =>
  openBaseline(
    { directory: folder, manifest: { modelChecksum: model, graphDigest: "other" } } as Parameters<
      typeof openBaseline
    >[0],
    configured,
    createLogger("test", "debug", { write: (line) => lines.push(line) }),
  );

test("without a baseline the log says once what the guard does then", async () => {
  const served = await open();
  expect(served.for(DEFAULT_GUARD_POLICY, 1)).toBeUndefined();
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ level: "warn", msg: expect.stringContaining("repetition alone") }),
  ]);
});

test("the one beside the model is read, and its bands are in the log", async () => {
  await writeFile(join(folder, "guard-baseline.json"), await readFile(STARTER));
  const served = await open();
  expect(served.temperatures).toEqual([0, 0.6, 1]);
  expect(JSON.parse(lines.join(""))).toMatchObject({
    msg: "guard baseline loaded",
    sameGraph: false,
    bands: [{ temperature: 0 }, { temperature: 0.6, windowTokens: 32 }, { temperature: 1 }],
  });
});

test("the one that is configured comes first", async () => {
  await writeFile(join(folder, "guard-baseline.json"), "{}");
  expect((await open(STARTER)).temperatures).toEqual([0, 0.6, 1]);
});

test("a baseline is made for a policy's window and a temperature, the nearest that was measured", async () => {
  const served = await open(STARTER);
  const narrow = served.for({ ...DEFAULT_GUARD_POLICY, windowTokens: 16 }, 0.7);
  expect(narrow?.band).toMatchObject({ windowTokens: 16, measuredTokens: 16 });
  expect(narrow).toEqual(served.for({ ...DEFAULT_GUARD_POLICY, windowTokens: 16 }, 0.6));
  expect(served.for(DEFAULT_GUARD_POLICY, 0.6)?.band).not.toEqual(served.for(DEFAULT_GUARD_POLICY, 1)?.band);
  expect(served.for(DEFAULT_GUARD_POLICY, 1)).toEqual(served.for(DEFAULT_GUARD_POLICY, 9));
});

test("more windows than are kept are served all the same", async () => {
  const served = await open(STARTER);
  const of = (windowTokens: number) => served.for({ ...DEFAULT_GUARD_POLICY, windowTokens }, 1)?.band;
  const first = of(33);
  for (let windowTokens = 40; windowTokens < 110; windowTokens++)
    expect(of(windowTokens)?.windowTokens).toBe(windowTokens);
  expect(of(33)).toEqual(first);
});

test("what is missing, damaged, too large or another model's is a wrong configuration", async () => {
  const refused = (message: string) => ({ reason: "CONFIG_INVALID", message: expect.stringContaining(message) });
  await expect(open(join(folder, "none.json"))).rejects.toMatchObject(refused("there is no file"));
  await expect(open(STARTER, "ab".repeat(32))).rejects.toMatchObject(refused("measure it anew"));
  const file = join(folder, "guard-baseline.json");
  await writeFile(file, "{}");
  await expect(open()).rejects.toMatchObject(refused("has not exactly the fields"));
  await truncate(file, 17 << 20);
  await expect(open()).rejects.toMatchObject(refused("bytes, at most"));
  await mkdir(join(folder, "directory"));
  await expect(open(join(folder, "directory"))).rejects.toMatchObject(refused("is not a file"));
});
