import { execFileSync } from "node:child_process";
import { mkdtemp, open, rm, symlink, truncate, utimes, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  rawSafetensors,
  safetensorsBytes,
  shardedFiles,
  TINY_CONFIG,
  type TinyTensor,
  tinyTensors,
  writeTinyCheckpoint,
} from "../testing/tiny-checkpoint.ts";
import { Checkpoint } from "./checkpoint.ts";
import { openRegularFile } from "./file-reads.ts";

/** Far more than any of these takes, far less than a hang. */
const SOON_MS = 15_000;

/** Memory that reading headers may take, whatever the files claim. */
const LITTLE = 300 * 1024 * 1024;

let work: string;
let directory: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "hostile-"));
  directory = await writeTinyCheckpoint(join(work, "c"));
});
afterEach(async () => {
  await rm(work, { recursive: true, force: true });
});

async function readAll(): Promise<void> {
  await using checkpoint = await Checkpoint.open(directory);
  await checkpoint.digests();
}

/** @returns the refusal, if it came in time and without much memory */
async function refused(): Promise<{ reason: string; message: string }> {
  const [start, before] = [performance.now(), process.memoryUsage().rss];
  const error = await readAll().then(
    () => expect.fail("the checkpoint was read"),
    (reason: { reason: string; message: string }) => reason,
  );
  expect(performance.now() - start).toBeLessThan(SOON_MS);
  expect(process.memoryUsage().rss - before).toBeLessThan(LITTLE);
  expect(error.message.length).toBeLessThan(1000);
  return error;
}

const FILES = ["config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json"];

describe("what stands in the place of a file", () => {
  it.each(FILES)("is refused where it is a pointer of Git LFS: %s", async (name) => {
    const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"a".repeat(64)}\nsize 4096\n`;
    await writeFile(join(directory, name), pointer);
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_CORRUPT",
      message: expect.stringMatching(new RegExp(`^"${name}" is a pointer of Git LFS .*git lfs pull`)),
    });
  });

  it.each(FILES)("is refused where it is a pipe that nobody writes to: %s", async (name) => {
    await rm(join(directory, name), { force: true });
    execFileSync("sh", ["-c", 'mkfifo "$0"', join(directory, name)]);
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_UNSAFE_PATH",
      message: `"${name}" is not a regular file`,
    });
  });

  it.each(FILES)("is refused where it is a socket: %s", async (name) => {
    await rm(join(directory, name), { force: true });
    const server = createServer();
    await new Promise<void>((listening) => server.listen(join(directory, name), listening));
    try {
      expect(await refused()).toMatchObject({
        reason: "CHECKPOINT_UNSAFE_PATH",
        message: expect.stringContaining(name),
      });
    } finally {
      await new Promise((closed) => server.close(closed));
    }
  });

  it.each(FILES)("is refused where it is a link to a device or in a circle: %s", async (name) => {
    const path = join(directory, name);
    await rm(path, { force: true });
    await symlink("/dev/zero", path);
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_UNSAFE_PATH",
      message: expect.stringMatching(/leads out of the checkpoint. Make a copy with the files in place of the links/),
    });
    await rm(path);
    await symlink(name, path);
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_NOT_FOUND",
      message: expect.stringContaining("ELOOP"),
    });
  });

  it("is refused where it is a device", async () => {
    await expect(openRegularFile("/dev/zero", "a")).rejects.toMatchObject({ reason: "CHECKPOINT_UNSAFE_PATH" });
  });

  it("is refused where a link was put in its place after it was looked for", async () => {
    await writeFile(join(work, "secret"), "{}");
    await symlink("../secret", join(directory, "link"));
    await expect(openRegularFile(join(directory, "link"), "link")).rejects.toThrow(/cannot read "link": ELOOP/);
  });
});

describe("a file of weights that claims to be large", () => {
  it("is refused for a header of gigabytes, though the file has them", async () => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(6_000_000_000n);
    await writeFile(join(directory, "model.safetensors"), length);
    await truncate(join(directory, "model.safetensors"), 8_000_000_000);
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_CORRUPT",
      message: expect.stringContaining("the header claims 6000000000 bytes, over the limit"),
    });
  });

  it("is opened without reading its weights", async () => {
    const vocabulary = 2_000_000;
    const bytes = 4 * vocabulary * 8;
    const tensors = tinyTensors();
    const header: Record<string, unknown> = {};
    const shapes = new Map([...tensors].map(([name, { shape }]) => [name, shape[0] === 608 ? [vocabulary, 8] : shape]));
    let end = 0;
    for (const [name, shape] of shapes) {
      const length = 4 * shape.reduce((product, dimension) => product * dimension, 1);
      header[name] = { dtype: "F32", shape, data_offsets: [end, end + length] };
      end += length;
    }
    const start = rawSafetensors(JSON.stringify(header), new Uint8Array(0));
    await writeTinyCheckpoint(directory, { config: { ...TINY_CONFIG, vocab_size: vocabulary }, weights: start });
    await truncate(join(directory, "model.safetensors"), start.byteLength + end);
    const before = process.memoryUsage().rss;
    await using checkpoint = await Checkpoint.open(directory);
    expect(checkpoint.tensorBytes).toBeGreaterThan(2 * bytes);
    expect(process.memoryUsage().rss - before).toBeLessThan(bytes / 2);
    // A tensor of 64 MB is scanned in slices.
    const digests = await checkpoint.digests();
    expect(digests).toHaveLength(tensors.size);
    expect(process.memoryUsage().rss - before).toBeLessThan(bytes);
  });
});

describe("JSON that grows when it is read", () => {
  const megabytes = (text: string, count: number) => text.repeat((count * 1024 * 1024) / text.length);
  const bombs: [string, (inner: (value: string) => string) => string][] = [
    ["deep nesting", (put) => put(megabytes("[", 3))],
    ["deep nesting, closed", (put) => put(`${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}`)],
    ["a huge array", (put) => put(`[${megabytes("[],", 3)}[]]`)],
    ["an array of wrong numbers", (put) => put(`[${"-1.5,".repeat(90_000)}-1]`)],
    ["many keys", (put) => put(`{${Array.from({ length: 90_000 }, (_, i) => `"${i}":0`).join()}}`)],
    ["a huge number", (put) => put(megabytes("9", 3))],
    ["a huge exponent", (put) => put(`1e${megabytes("9", 3)}`)],
    ["a number beyond all others", (put) => put("1e400")],
    ["a long text", (put) => put(`"${megabytes("x", 3)}"`)],
    ["whitespace", (put) => put(megabytes(" ", 3))],
  ];
  it.each(bombs)("is refused in config.json: %s", async (_, bomb) => {
    const config = JSON.stringify(TINY_CONFIG);
    for (const field of ["hidden_size", "eos_token_id", "architectures", "rope_parameters", "unknown"]) {
      const { [field]: __, ...others } = TINY_CONFIG;
      const text = bomb((value) => `{"${field}":${value},${JSON.stringify(others).slice(1)}`);
      expect(text).not.toBe(config);
      await writeFile(join(directory, "config.json"), text);
      expect((await refused()).reason).toMatch(/^CHECKPOINT_(CONFIG_INVALID|UNSUPPORTED)$/);
    }
  });

  it.each(bombs)("is refused in the index of shards: %s", async (_, bomb) => {
    await rm(join(directory, "model.safetensors"));
    await writeTinyCheckpoint(directory, { files: shardedFiles(tinyTensors(), 2) });
    const index = bomb((value) => `{"weight_map":{"model.norm.weight":${value}}}`);
    await writeFile(join(directory, "model.safetensors.index.json"), index);
    expect((await refused()).reason).toMatch(/^CHECKPOINT_(CONFIG_INVALID|CORRUPT|UNSAFE_PATH|UNSUPPORTED)$/);
  });

  it.each(bombs)("is refused in a header: %s", async (_, bomb) => {
    for (const field of ["dtype", "shape", "data_offsets", "more"]) {
      const tensor = { dtype: "F32", shape: [2], data_offsets: [0, 8], [field]: 0 };
      const header = JSON.stringify({ a: tensor });
      const text = bomb((value) => header.replace(new RegExp(`"${field}":(0|\\[.*?\\])`), `"${field}":${value}`));
      expect(text).not.toBe(header);
      await writeFile(join(directory, "model.safetensors"), rawSafetensors(text, new Uint8Array(8)));
      expect(await refused()).toMatchObject({ reason: "CHECKPOINT_CORRUPT" });
    }
  });
});

describe("64 MB of whitespace", () => {
  const space = Buffer.alloc(64 * 1024 * 1024, " ");
  it.each<[string, string, Buffer]>([
    ["config.json", "CHECKPOINT_CONFIG_INVALID", space],
    ["model.safetensors.index.json", "CHECKPOINT_CONFIG_INVALID", space],
    ["model.safetensors", "CHECKPOINT_CORRUPT", Buffer.from(rawSafetensors(String(space), new Uint8Array(8)))],
  ])("is refused: %s", async (name, reason, bytes) => {
    await writeFile(join(directory, name), bytes);
    expect(await refused()).toMatchObject({ reason, message: expect.stringMatching(/67108864 bytes, over the limit/) });
  });
});

describe("a file that changes while it is read", () => {
  const path = () => join(directory, "model.safetensors");

  it.each<[string, () => Promise<void>, RegExp]>([
    ["shrinks", () => truncate(path(), 30_000), /"model.safetensors" ends at byte 30000, within its data/],
    ["loses its header", () => truncate(path(), 10), /"model.safetensors" ends at byte/],
    [
      "grows",
      () => writeFile(path(), "more", { flag: "a" }),
      /"model.safetensors" changed while it was being imported/,
    ],
    ["is touched", () => utimes(path(), 2, 2), /"model.safetensors" changed while it was being imported/],
    ["disappears", () => rm(path()), /"model.safetensors" changed while it was being imported/],
  ])("is refused: one that %s", async (_, change, message) => {
    await utimes(path(), 1, 1);
    await using checkpoint = await Checkpoint.open(directory);
    await change();
    await expect(checkpoint.digests()).rejects.toThrow(
      expect.objectContaining({ reason: "CHECKPOINT_CORRUPT", message: expect.stringMatching(message) }),
    );
  });

  it("is refused where a tensor gives other bytes when it is read again", async () => {
    const name = "model.norm.weight";
    await using checkpoint = await Checkpoint.open(directory);
    const { offset } = checkpoint.tensor(name);
    const [norm] = (await checkpoint.read(name)) as Float32Array;
    await checkpoint.read(name);
    await using file = await open(path(), "r+");
    await file.write(new Uint8Array(Float32Array.of((norm as number) + 1).buffer), 0, 4, offset);
    await expect(checkpoint.read(name)).rejects.toThrow(`tensor "${name}" changed while it was being imported`);
  });

  it("is refused where another reader saw other bytes", async () => {
    const name = "model.norm.weight";
    await using checkpoint = await Checkpoint.open(directory);
    const digests = await checkpoint.digests();
    const sha256 = digests.find((digest) => digest.name === name)?.sha256 as string;
    checkpoint.record(name, sha256);
    expect(() => checkpoint.record(name, sha256.replace(/./, "x"))).toThrow(/changed while/);
    expect(() => checkpoint.record("lm_head.bias", sha256)).toThrow(/not a tensor of this model/);
  });

  it("takes the digests of another reader for its own", async () => {
    await using checkpoint = await Checkpoint.open(directory);
    for (const name of checkpoint.tensors.keys()) checkpoint.record(name, `digest of ${name}`);
    const read: number[] = [];
    const digests = await checkpoint.digests({ onBytes: (bytes) => read.push(bytes) });
    expect(read).toEqual([]);
    expect(digests.map(({ sha256 }) => sha256)).toEqual(digests.map(({ name }) => `digest of ${name}`));
  });
});

describe("checkpoints that are not of floats", () => {
  it.each([
    ["U8", 1, 1],
    ["I8", 1, 1],
    ["F8_E4M3", 1, 1],
    ["F8_E5M2", 1, 1],
    ["F4", 1, 2],
    ["I32", 4, 1],
    ["F64", 8, 1],
    ["C64", 8, 1],
  ])("are refused naming the tensor and its type: %s", async (dtype, bytes, elements) => {
    const tensors = tinyTensors();
    const name = "model.layers.0.mlp.down_proj.weight";
    const { shape } = tensors.get(name) as TinyTensor;
    const length = (shape.reduce((product, dimension) => product * dimension, 1) / elements) * bytes;
    tensors.set(name, { dtype, shape, bytes: new Uint8Array(length) });
    await writeFile(join(directory, "model.safetensors"), safetensorsBytes(tensors));
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_UNSUPPORTED",
      message: expect.stringContaining(`tensor "${name}" is ${dtype}; supported: F32, F16, BF16. Quantised`),
    });
  });

  it("are refused by their types before their names: packed weights with scales", async () => {
    const tensors = tinyTensors();
    const name = "model.layers.0.mlp.down_proj.weight";
    tensors.delete(name);
    tensors.set(name.replace("weight", "qweight"), { dtype: "I32", shape: [8], bytes: new Uint8Array(32) });
    tensors.set(name.replace("weight", "scales"), { dtype: "F16", shape: [8], bytes: new Uint8Array(16) });
    await writeFile(join(directory, "model.safetensors"), safetensorsBytes(tensors));
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_UNSUPPORTED",
      message: expect.stringMatching(/qweight" is I32/),
    });
  });

  it("are refused by the field of config.json that says so", async () => {
    const config = { ...TINY_CONFIG, quantization_config: { quant_method: "gptq", bits: 4 } };
    await writeFile(join(directory, "config.json"), JSON.stringify(config));
    expect(await refused()).toMatchObject({
      reason: "CHECKPOINT_UNSUPPORTED",
      message: expect.stringContaining("quantization_config"),
    });
  });
});
