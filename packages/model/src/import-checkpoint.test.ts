import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { importCheckpoint } from "./import-checkpoint.ts";
import { loadPackage } from "./package/load-package.ts";
import { writeTinyCheckpoint } from "./testing/tiny-checkpoint.ts";
import { loadTokenizer } from "./tokenizer/load-tokenizer.ts";

let work: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "model-import-"));
});
afterEach(async () => {
  await rm(work, { recursive: true, force: true });
});

describe("importCheckpoint", () => {
  it("makes a package that loads, with weights where the manifest says", async () => {
    const checkpoint = await writeTinyCheckpoint(join(work, "checkpoint"));
    const { manifest, outcome } = await importCheckpoint(checkpoint, join(work, "package"));
    expect(outcome).toBe("created");
    const loaded = await loadPackage(join(work, "package"));
    expect(loaded.manifest).toEqual(manifest);
    const { tokenizer, chatTemplate } = await loadTokenizer(loaded);
    expect(tokenizer.decode(tokenizer.encode("hello"))).toBe("hello");
    expect(chatTemplate).toBeDefined();
    expect(await readdir(work)).toEqual(["checkpoint", "package"]);
    expect((await readFile(loaded.graphPath("body"))).byteLength).toBeGreaterThan(0);
  });
});
