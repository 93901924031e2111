import { appendFile, cp, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { importCheckpoint } from "../import-checkpoint.ts";
import { writeTinyCheckpoint } from "../testing/tiny-checkpoint.ts";
import { loadPackage } from "./load-package.ts";

let work: string;
let directory: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "model-package-"));
  await importCheckpoint(await writeTinyCheckpoint(join(work, "checkpoint")), join(work, "whole"));
});
afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});
beforeEach(async () => {
  directory = join(work, "copy");
  await rm(directory, { recursive: true, force: true });
  await cp(join(work, "whole"), directory, { recursive: true });
});

const corrupt = (message: RegExp) =>
  expect.objectContaining({ reason: "MODEL_PACKAGE_CORRUPT", message: expect.stringMatching(message) });

/**
 * @param path - field names, joined by slashes
 * @param value - what to put there, or a function of what is there; undefined leaves the field out
 */
async function rewriteManifest(path: string, value: unknown): Promise<void> {
  const file = join(directory, "manifest.json");
  const manifest = JSON.parse(await readFile(file, "utf8")) as Record<string, unknown>;
  const fields = path.split("/");
  const last = fields.pop() as string;
  const parent = fields.reduce((at, field) => at[field] as Record<string, unknown>, manifest);
  parent[last] = typeof value === "function" ? value(parent[last]) : value;
  await writeFile(file, JSON.stringify(manifest));
}

describe("loadPackage", () => {
  it("gives paths and reports progress to the last byte", async () => {
    const seen: [number, number][] = [];
    const loaded = await loadPackage(directory, { onProgress: (done, total) => seen.push([done, total]) });
    expect(loaded.weightsPath).toBe(join(loaded.directory, "weights.bin"));
    expect(loaded.graphPath("head-top")).toBe(join(loaded.directory, "head-top.onnx"));
    const files = Object.values(loaded.manifest.files).reduce((sum, { bytes }) => sum + bytes, 0);
    const total = files + loaded.manifest.weightBytes;
    expect(seen.at(-1)).toEqual([total, total]);
  });

  it("finds one flipped bit in any file, and names the file and both digests", async () => {
    const { manifest } = await loadPackage(directory);
    for (const [name, { bytes, sha256 }] of Object.entries(manifest.files)) {
      const path = join(directory, name);
      const data = await readFile(path);
      const damaged = Buffer.from(data);
      const at = Math.floor(bytes / 2);
      damaged[at] = (damaged[at] as number) ^ 1;
      await writeFile(path, damaged);
      await expect(loadPackage(directory)).rejects.toThrow(
        corrupt(new RegExp(`"${name}" has sha256 [0-9a-f]{64}, the manifest says ${sha256}`)),
      );
      await writeFile(path, data);
    }
    await expect(loadPackage(directory)).resolves.toBeDefined();
  });

  it("finds one flipped bit anywhere in the weights, in padding too, and names the tensor", async () => {
    const { manifest, weightsPath } = await loadPackage(directory);
    const whole = await readFile(weightsPath);
    const check = async (at: number, message: RegExp) => {
      const damaged = Buffer.from(whole);
      damaged[at] = (damaged[at] as number) ^ 0x80;
      await writeFile(weightsPath, damaged);
      await expect(loadPackage(directory)).rejects.toThrow(corrupt(message));
    };
    let padded = 0;
    for (const [index, { name, offset, byteLength, sha256 }] of manifest.weights.entries()) {
      const damaged = new RegExp(
        `"weights.bin" .*tensor "${name}" has sha256 [0-9a-f]{64}, the manifest says ${sha256}`,
      );
      // The first and the last byte by turns.
      await check(index % 2 === 0 ? offset : offset + byteLength - 1, damaged);
      const next = manifest.weights[index + 1]?.offset ?? whole.byteLength;
      if (next === offset + byteLength) continue;
      padded++;
      const stray = new RegExp(`"weights.bin" has bytes other than zero after tensor "${name}"`);
      await check(index % 2 === 0 ? next - 1 : offset + byteLength, stray);
    }
    expect(padded).toBeGreaterThan(5);
  });

  it("finds a truncated and a missing file", async () => {
    await truncate(join(directory, "weights.bin"), 1000);
    await expect(loadPackage(directory)).rejects.toThrow(corrupt(/"weights.bin" has 1000 bytes, the manifest says/));
    await writeFile(join(directory, "weights.bin"), await readFile(join(work, "whole", "weights.bin")));
    await appendFile(join(directory, "weights.bin"), "x");
    await expect(loadPackage(directory)).rejects.toThrow(corrupt(/"weights.bin" has \d+ bytes, the manifest says/));
    await rm(join(directory, "weights.bin"));
    await expect(loadPackage(directory)).rejects.toThrow(corrupt(/"weights.bin" is missing/));
  });

  const add = (bytes: number) => (old: unknown) => (old as number) + bytes;
  it.each<[string, string, unknown, RegExp]>([
    ["another checksum", "modelChecksum", "0".repeat(64), /modelChecksum is 0+, its parts give/],
    ["another graph digest", "graphDigest", "1".repeat(64), /graphDigest is 1+/],
    ["another tokenizer digest", "tokenizerDigest", "2".repeat(64), /tokenizerDigest is 2+/],
    ["another computation", "spec/normEps", 0.5, /modelChecksum/],
    ["a field of spec that is not known", "spec/ropeTheta", 5000, /spec.*ropeTheta/],
    ["other end tokens", "tokens/eos", [3], /tokenizerDigest/],
    ["another source tensor", "provenance/tensors/0/sha256", "3".repeat(64), /modelChecksum/],
    ["another weight", "weights/0/sha256", "4".repeat(64), /graphDigest/],
    ["a weight moved", "weights/1/offset", add(4096), /"layers.0.attention_norm" .* misplaced/],
    ["a weight renamed", "weights/1/name", "x", /"x" .* not part of this model/],
    ["a weight too many", "weights", (all: unknown[]) => [...all, all[0]], /not part of this model/],
    ["a weight too few", "weights", (all: unknown[]) => all.slice(0, -1), /"head" is missing/],
    ["another precision", "precision/head/kind", "bfloat16", /"head" .* not part of this model/],
    ["more layers than a plan can have", "spec/layers", 1e12, /too few tensors for 1000000000000 layers/],
    ["another total of bytes", "weightBytes", add(4), /weightBytes is \d+, not \d+/],
    ["overlapping weights", "weights/1/offset", 0, /misplaced/],
    ["an unaligned weight", "weights/1/offset", add(4), /weights.1.offset/],
    ["a weight of another size", "weights/0/byteLength", add(4), /misplaced/],
    ["a graph outside the package", "graphs/body", "../body.onnx", /graphs.body/],
    ["a weights file by absolute path", "weightsFile", "/etc/passwd", /weightsFile/],
    ["a file that is not listed", "graphs/body", "constructor", /no digest for "constructor"/],
    ["a listed file outside", "files/..", { bytes: 1, sha256: "0".repeat(64) }, /files/],
    ["no digest for a graph", "files/body.onnx", undefined, /no digest for "body.onnx"/],
    ["a further field", "extra", 1, /manifest.json/],
    ["a missing field", "spec", undefined, /spec/],
    ["another format", "format", "x", /not the manifest of a model package/],
  ])("refuses a manifest with %s", async (_, path, value, message) => {
    await rewriteManifest(path, value);
    await expect(loadPackage(directory)).rejects.toThrow(corrupt(message));
  });

  it.each(["", "{", "[]", "null", '"x"'])("refuses %j for a manifest", async (text) => {
    await writeFile(join(directory, "manifest.json"), text);
    await expect(loadPackage(directory)).rejects.toMatchObject({ reason: "MODEL_PACKAGE_CORRUPT" });
  });

  it("says when the format is of another version", async () => {
    await rewriteManifest("formatVersion", 99);
    await expect(loadPackage(directory)).rejects.toMatchObject({
      reason: "MODEL_PACKAGE_VERSION_UNSUPPORTED",
      message: expect.stringContaining("version 99; supported: 2"),
    });
  });

  it("says when there is no package", async () => {
    for (const path of [join(work, "nothing"), work, join(directory, "weights.bin")]) {
      await expect(loadPackage(path)).rejects.toMatchObject({ reason: "MODEL_PACKAGE_NOT_FOUND" });
    }
  });

  it("has no graph of an unknown role", async () => {
    const loaded = await loadPackage(directory);
    expect(() => loaded.graphPath("constructor" as "body")).toThrow(
      corrupt(/no graph "constructor"; .* again with --overwrite/),
    );
  });

  it("can be aborted", async () => {
    await expect(loadPackage(directory, { signal: AbortSignal.abort() })).rejects.toThrow(/abort/i);
  });
});
