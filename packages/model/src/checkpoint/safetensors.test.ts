import { appendFile, copyFile, mkdtemp, rename, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { rawSafetensors, safetensorsBytes } from "../testing/tiny-checkpoint.ts";
import { SafetensorsFile } from "./safetensors.ts";

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "safetensors-"));
});
afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});

async function openBytes(bytes: Uint8Array): Promise<SafetensorsFile> {
  const path = join(work, "t.safetensors");
  await writeFile(path, bytes);
  return SafetensorsFile.open(path, "t.safetensors");
}

const float32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const two = new Map([
  ["a", { dtype: "F32", shape: [2, 3], bytes: float32(1, 2, 3, 4, 5, 6) }],
  ["b", { dtype: "F32", shape: [], bytes: float32(7) }],
]);
const header = (tensors: Record<string, unknown>) => JSON.stringify(tensors);
const f32 = (shape: unknown, data_offsets: unknown) => ({ dtype: "F32", shape, data_offsets });
const lengthOnly = (length: bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(length);
  return bytes;
};

describe("SafetensorsFile", () => {
  it("says where each tensor lies, whatever their order in the header", async () => {
    await using file = await openBytes(safetensorsBytes(two));
    expect(file.tensors).toMatchObject([
      { name: "a", dtype: "F32", shape: [2, 3], byteLength: 24 },
      { name: "b", dtype: "F32", shape: [], byteLength: 4 },
    ]);
    expect(await valuesOf(file, "b")).toEqual(Float32Array.of(7));
    expect(await valuesOf(file, "a")).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
  });

  it("takes tensors without elements, and padding after the header", async () => {
    const json = header({ z: f32([0, 4], [0, 0]), a: f32([1], [0, 4]) });
    await using file = await openBytes(rawSafetensors(`${json}   `, float32(9)));
    expect(await valuesOf(file, "z")).toHaveLength(0);
    expect(await valuesOf(file, "a")).toEqual(Float32Array.of(9));
  });

  const eight = float32(1, 2);
  it.each<[string, Uint8Array, RegExp]>([
    ["an empty file", new Uint8Array(0), /cannot hold/],
    ["seven bytes", new Uint8Array(7), /cannot hold/],
    [
      "a header longer than the file",
      Buffer.concat([lengthOnly(1000n), Buffer.from("{}")]),
      /claims 1000 bytes, the file/,
    ],
    ["a header of gigabytes", lengthOnly(5_000_000_000n), /over the limit/],
    ["a header of 2^64 − 1 bytes", lengthOnly(0xffff_ffff_ffff_ffffn), /over the limit/],
    ["a header that is not JSON", rawSafetensors("{", eight), /not valid JSON/],
    ["a header that is not UTF-8", Buffer.concat([lengthOnly(2n), Uint8Array.of(0xff, 0xfe)]), /not valid JSON/],
    ["a header that is a list", rawSafetensors("[]", eight), /not a JSON object/],
    ["a deeply nested header", rawSafetensors(`{"a":${"[".repeat(5000)}${"]".repeat(5000)}}`, eight), /nested deeper/],
    [
      "a name given twice",
      rawSafetensors(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        eight,
      ),
      /key "a" appears twice/,
    ],
    [
      "a name given twice in other spelling",
      rawSafetensors(
        '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        eight,
      ),
      /key "a" appears twice/,
    ],
    [
      "an unknown dtype",
      rawSafetensors(header({ a: { dtype: "Q4", shape: [8], data_offsets: [0, 8] } }), eight),
      /tensor "a": dtype "Q4" is not known/,
    ],
    ["a shape that is no list", rawSafetensors(header({ a: f32("2", [0, 8]) }), eight), /tensor "a": shape/],
    ["a negative dimension", rawSafetensors(header({ a: f32([-2], [0, 8]) }), eight), /tensor "a": shape/],
    ["a fractional dimension", rawSafetensors(header({ a: f32([1.5], [0, 6]) }), eight), /tensor "a": shape/],
    [
      "a shape that overflows",
      rawSafetensors(header({ a: f32([2 ** 40, 2 ** 40], [0, 8]) }), eight),
      /too many elements/,
    ],
    ["many dimensions", rawSafetensors(header({ a: f32(Array(9).fill(1), [0, 8]) }), eight), /tensor "a": shape/],
    ["a shape of another size", rawSafetensors(header({ a: f32([3], [0, 8]) }), eight), /takes 12 bytes, not 8/],
    ["one offset", rawSafetensors(header({ a: f32([2], [0]) }), eight), /data_offsets/],
    ["reversed offsets", rawSafetensors(header({ a: f32([2], [8, 0]) }), eight), /not within/],
    ["offsets past the end", rawSafetensors(header({ a: f32([4], [0, 16]) }), eight), /not within/],
    ["huge offsets", rawSafetensors(header({ a: f32([2], [2 ** 52, 2 ** 52 + 8]) }), eight), /not within/],
    [
      "overlapping tensors",
      rawSafetensors(header({ a: f32([2], [0, 8]), b: f32([1], [4, 8]) }), eight),
      /"b" overlaps tensor "a"/,
    ],
    ["the same bytes twice", rawSafetensors(header({ a: f32([2], [0, 8]), b: f32([2], [0, 8]) }), eight), /overlaps/],
    ["a hole before a tensor", rawSafetensors(header({ a: f32([1], [4, 8]) }), eight), /4 bytes before tensor "a"/],
    ["bytes after the last tensor", rawSafetensors(header({ a: f32([1], [0, 4]) }), eight), /4 bytes after tensor "a"/],
    [
      "a dtype that is no text",
      rawSafetensors(header({ a: { ...f32([2], [0, 8]), dtype: { toString: 1 } } }), eight),
      /dtype {"to/,
    ],
    ["a tensor that is a number", rawSafetensors(header({ a: 8 }), eight), /tensor "a": is not described by an object/],
    ["a tensor without fields", rawSafetensors(header({ a: {} }), eight), /tensor "a": dtype missing/],
    [
      "half a byte",
      rawSafetensors(header({ a: { ...f32([3], [0, 8]), dtype: "F4" } }), eight),
      /takes 1.5 bytes, not 8/,
    ],
    [
      "a name of a million letters",
      rawSafetensors(header({ [`${"n".repeat(1e6)}`]: 8 }), eight),
      /tensor "n{99,200}…: is not/,
    ],
    [
      "more values than tensors can need",
      rawSafetensors(`{"a":[${"[],".repeat(2e6)}[]]}`, eight),
      /more than 1000000 values/,
    ],
    ["a byte order mark", rawSafetensors(`\ufeff${header({ a: f32([2], [0, 8]) })}`, eight), /not valid JSON/],
    ["a further field", rawSafetensors(header({ a: { ...f32([2], [0, 8]), x: 1 } }), eight), /tensor "a"/],
    [
      "metadata that is no map of texts",
      rawSafetensors(header({ __metadata__: { a: 1 }, a: f32([2], [0, 8]) }), eight),
      /__metadata__/,
    ],
  ])("refuses %s", async (_, bytes, message) => {
    await expect(openBytes(bytes)).rejects.toThrow(
      expect.objectContaining({ reason: "CHECKPOINT_CORRUPT", message: expect.stringMatching(message) }),
    );
  });

  it("refuses every truncation of a valid file", async () => {
    const whole = safetensorsBytes(two);
    for (let length = 0; length < whole.byteLength; length++) {
      await expect(openBytes(whole.subarray(0, length))).rejects.toMatchObject({ reason: "CHECKPOINT_CORRUPT" });
    }
  });

  it.each<[string, (path: string) => Promise<void>]>([
    ["shrinks", (path) => truncate(path, 100)],
    ["grows", (path) => appendFile(path, "x")],
    ["is written to in place", async (path) => writeFile(path, new Uint8Array((await stat(path)).size))],
    ["is replaced by a copy", async (path) => rename(await copyOf(path), path)],
  ])("notices a file that %s after it was opened", async (_, change) => {
    await writeFile(join(work, "t.safetensors"), safetensorsBytes(two));
    // Clocks of file systems tick in milliseconds: as old as a real one, or the change may fall into the same tick.
    await utimes(join(work, "t.safetensors"), 1, 1);
    await using file = await SafetensorsFile.open(join(work, "t.safetensors"), "t.safetensors");
    await expect(file.refuseChange()).resolves.toBeUndefined();
    await change(file.path);
    await expect(file.refuseChange()).rejects.toThrow(
      expect.objectContaining({ reason: "CHECKPOINT_CORRUPT", message: expect.stringContaining("changed while") }),
    );
  });
});

async function valuesOf(file: SafetensorsFile, name: string): Promise<Float32Array> {
  const entry = file.tensors.find((tensor) => tensor.name === name);
  const values = new Float32Array((entry?.byteLength ?? 0) / 4);
  await file.handle.read(values, { position: entry?.offset ?? 0 });
  return values;
}

async function copyOf(path: string): Promise<string> {
  await copyFile(path, `${path}.copy`);
  return `${path}.copy`;
}
