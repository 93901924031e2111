import { mkdir, mkdtemp, rename, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  safetensorsBytes,
  shardedFiles,
  TINY_CONFIG,
  TINY_SPEC,
  type TinyTensor,
  tinyTensors,
  writeTinyCheckpoint,
} from "../testing/tiny-checkpoint.ts";
import { Checkpoint } from "./checkpoint.ts";
import { modelChecksum } from "./model-checksum.ts";

const INDEX = "model.safetensors.index.json";
const FIRST = "model-00001-of-00003.safetensors";
const SECOND = "model-00002-of-00003.safetensors";
const NORM = "model.norm.weight";

let work: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "weights-"));
});
afterEach(async () => {
  await rm(work, { recursive: true, force: true });
});

async function checksumOf(directory: string): Promise<string> {
  await using checkpoint = await Checkpoint.open(directory);
  return modelChecksum(checkpoint.config.spec, await checkpoint.digests());
}

let written = 0;
function write(files: Readonly<Record<string, Uint8Array | string | undefined>>, config: unknown = TINY_CONFIG) {
  return writeTinyCheckpoint(join(work, `c${written++}`), { config, files });
}

/** Three shards whose index is another. */
function withIndex(change: (map: Record<string, unknown>, index: Record<string, unknown>) => void) {
  const files = shardedFiles(tinyTensors(), 3);
  const index = JSON.parse(files[INDEX] as string) as { weight_map: Record<string, unknown> };
  change(index.weight_map, index);
  return write({ ...files, [INDEX]: JSON.stringify(index) });
}

const refusal = (reason: string, message: RegExp) =>
  expect.objectContaining({ reason, message: expect.stringMatching(message) });

describe("weights in shards", () => {
  it("are the same model as in one file, however many there are", async () => {
    const single = await checksumOf(await write({}));
    for (const shards of [1, 2, 3, 12]) {
      expect(await checksumOf(await write(shardedFiles(tinyTensors(), shards)))).toBe(single);
    }
  });

  it("say where each tensor lies", async () => {
    const tensors = tinyTensors();
    const files = shardedFiles(tensors, 3);
    const directory = await write(files);
    await using checkpoint = await Checkpoint.open(directory);
    for (const [index, [name, { shape, bytes }]] of [...tensors].entries()) {
      const { file, path, offset, byteLength, ...source } = checkpoint.tensor(name);
      expect(source).toEqual({ name, dtype: "F32", shape });
      expect(path).toBe(join(directory, file));
      expect(file).toBe(`model-0000${(index % 3) + 1}-of-00003.safetensors`);
      expect((files[file] as Buffer).subarray(offset, offset + byteLength).equals(bytes)).toBe(true);
    }
    expect(checkpoint.tensorBytes).toBe([...tensors.values()].reduce((sum, { bytes }) => sum + bytes.byteLength, 0));
  });

  it("may have a total size that is wrong, which no reader uses", async () => {
    const directory = await withIndex((_, index) => Object.assign(index, { metadata: { total_size: 1 } }));
    await expect(checksumOf(directory)).resolves.toMatch(/^[0-9a-f]{64}$/);
  });

  it("may lie in the blobs of the Hub's cache", async () => {
    const snapshot = join(work, "models--a--b/snapshots/0123");
    await writeTinyCheckpoint(snapshot, { files: shardedFiles(tinyTensors(), 3) });
    await mkdir(join(work, "models--a--b/blobs"));
    for (const [blob, name] of [FIRST, SECOND, INDEX].entries()) {
      await rename(join(snapshot, name), join(work, `models--a--b/blobs/${blob}`));
      await symlink(`../../blobs/${blob}`, join(snapshot, name));
    }
    await expect(checksumOf(snapshot)).resolves.toMatch(/^[0-9a-f]{64}$/);
  });

  type Change = Parameters<typeof withIndex>[0];
  it.each<[string, ReturnType<typeof refusal>, Change]>([
    [
      "a path in the index",
      refusal("CHECKPOINT_UNSAFE_PATH", /"\.\.\/\.\.\/etc\/passwd", which is not a plain file name/),
      (map) => Object.assign(map, { [NORM]: "../../etc/passwd" }),
    ],
    [
      "an absolute path",
      refusal("CHECKPOINT_UNSAFE_PATH", /"\/dev\/zero"/),
      (map) => Object.assign(map, { [NORM]: "/dev/zero" }),
    ],
    [
      "a path of another platform",
      refusal("CHECKPOINT_UNSAFE_PATH", /plain file name/),
      (map) => Object.assign(map, { [NORM]: "..\\a.safetensors" }),
    ],
    [
      "a hidden file",
      refusal("CHECKPOINT_UNSAFE_PATH", /"\.a\.safetensors"/),
      (map) => Object.assign(map, { [NORM]: ".a.safetensors" }),
    ],
    [
      "a name with a zero byte",
      refusal("CHECKPOINT_UNSAFE_PATH", /plain file name/),
      (map) => Object.assign(map, { [NORM]: `${FIRST}\0.safetensors` }),
    ],
    [
      "a file of another format",
      refusal("CHECKPOINT_UNSUPPORTED", /"pytorch_model-00001-of-00002.bin"; supported/),
      (map) => Object.assign(map, { [NORM]: "pytorch_model-00001-of-00002.bin" }),
    ],
    [
      "a tensor that is in no shard",
      refusal("CHECKPOINT_CORRUPT", /"model.extra" is placed in the file and is not there/),
      (map) => Object.assign(map, { "model.extra": FIRST }),
    ],
    [
      "a tensor that is in another shard",
      refusal("CHECKPOINT_CORRUPT", /disagree: tensor "model.embed_tokens.weight" is/),
      (map) => Object.assign(map, { "model.embed_tokens.weight": SECOND }),
    ],
    [
      "a shard with a tensor that is not in the index",
      refusal("CHECKPOINT_CORRUPT", /"model.norm.weight" is there and is not placed in the file/),
      (map) => delete map[NORM],
    ],
    [
      "a tensor in no file",
      refusal("CHECKPOINT_CORRUPT", /"model.norm.weight" in no file/),
      (map) => Object.assign(map, { [NORM]: null }),
    ],
    [
      "thousands of files",
      refusal("CHECKPOINT_CORRUPT", /more than 1000 files/),
      (map) => Object.assign(map, Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [i, `${i}.safetensors`]))),
    ],
    [
      "no map",
      refusal("CHECKPOINT_CORRUPT", /weight_map is not an object/),
      (_, index) => Object.assign(index, { weight_map: [FIRST] }),
    ],
    [
      "an empty map",
      refusal("CHECKPOINT_CORRUPT", /weight_map is empty/),
      (_, index) => Object.assign(index, { weight_map: {} }),
    ],
  ])("refuses an index with %s", async (_, expected, change) => {
    await expect(checksumOf(await withIndex((map, index) => void change(map, index)))).rejects.toThrow(expected);
  });

  it("refuses an index that places a tensor twice", async () => {
    const files = shardedFiles(tinyTensors(), 3);
    const twice = (files[INDEX] as string).replace('"weight_map":{', `"weight_map":{"${NORM}":"${FIRST}",`);
    await expect(checksumOf(await write({ ...files, [INDEX]: twice }))).rejects.toThrow(
      refusal("CHECKPOINT_CONFIG_INVALID", /key "model.norm.weight" appears twice/),
    );
  });

  it("refuses two shards that hold the same tensor", async () => {
    const tensors = tinyTensors();
    const files = shardedFiles(tensors, 3);
    // The first of three has every third tensor; the norm is in the second.
    const first = [...tensors].filter(([name], index) => index % 3 === 0 || name === NORM);
    const both = { ...files, [FIRST]: safetensorsBytes(new Map(first)) };
    await expect(checksumOf(await write(both))).rejects.toThrow(
      refusal("CHECKPOINT_CORRUPT", /"model.norm.weight" is there and is not placed in the file/),
    );
  });

  it("refuses an index with a file that is not there", async () => {
    const directory = await write({ ...shardedFiles(tinyTensors(), 3), [SECOND]: undefined });
    await expect(checksumOf(directory)).rejects.toThrow(refusal("CHECKPOINT_NOT_FOUND", new RegExp(`no "${SECOND}"`)));
  });

  it("refuses shards of another order, whose tensors are not where the index says", async () => {
    const files = shardedFiles(tinyTensors(), 3);
    const swapped = { ...files, [FIRST]: files[SECOND], [SECOND]: files[FIRST] };
    await expect(checksumOf(await write(swapped))).rejects.toMatchObject({ reason: "CHECKPOINT_CORRUPT" });
  });
});

describe("one file of weights", () => {
  const index = (file: string) =>
    JSON.stringify({ weight_map: Object.fromEntries([...tinyTensors().keys()].map((name) => [name, file])) });

  it("may have an index that says the same", async () => {
    const base = await checksumOf(await write({}));
    expect(await checksumOf(await write({ [INDEX]: index("model.safetensors") }))).toBe(base);
  });

  it("is refused beside an index of other files, since one of the two is another model", async () => {
    const files = { ...shardedFiles(tinyTensors(), 3), "model.safetensors": safetensorsBytes(tinyTensors()) };
    await expect(checksumOf(await write(files))).rejects.toThrow(
      refusal("CHECKPOINT_CORRUPT", /places tensors in other files than "model.safetensors", which is there too/),
    );
  });

  it.each<[string, RegExp]>([
    ["pytorch_model.bin", /Python pickle.*safe_serialization=True/],
    ["pytorch_model.bin.index.json", /Python pickle/],
    ["model.ckpt", /Python pickle/],
    ["model-q4_k_m.gguf", /GGUF/],
    ["adapter_model.safetensors", /adapter.*Merge it/],
    ["consolidated.00.safetensors", /tensor names of another library/],
    ["consolidated.00.pth", /Python pickle/],
    ["model-00001-of-00002.safetensors", /said by "model.safetensors.index.json"/],
    ["tf_model.h5", /another framework/],
  ])("is missed by name where there is only %s", async (name, message) => {
    const directory = await write({ "model.safetensors": undefined, [name]: "" });
    await expect(checksumOf(directory)).rejects.toThrow(refusal("CHECKPOINT_UNSUPPORTED", message));
    await expect(checksumOf(directory)).rejects.toThrow(`no "model.safetensors", and "${name}"`);
  });

  it("is missed where there is nothing like it", async () => {
    await expect(checksumOf(await write({ "model.safetensors": undefined }))).rejects.toThrow(
      refusal("CHECKPOINT_NOT_FOUND", /no "model.safetensors"$/),
    );
  });
});

describe("weights in half precision", () => {
  it.each(["F16", "BF16"] as const)("are read as what %s says, and told from others", async (dtype) => {
    const tensors = tinyTensors(undefined, dtype);
    const directory = await write({ "model.safetensors": safetensorsBytes(tensors) });
    await using checkpoint = await Checkpoint.open(directory);
    const digests = await checkpoint.digests();
    expect(digests.every((digest) => digest.dtype === dtype)).toBe(true);
    // Element i of the first tensor is i / 1024, up to 255 exact in both types.
    const values = await checkpoint.read("model.embed_tokens.weight");
    expect([...values.subarray(0, 256)]).toEqual(Array.from({ length: 256 }, (_, i) => i / 1024));
    expect(values).toHaveLength(TINY_SPEC.vocabulary * TINY_SPEC.hidden);
    expect(modelChecksum(checkpoint.config.spec, digests)).not.toBe(await checksumOf(await write({})));
  });

  it("may be mixed with others, as norms often are", async () => {
    const tensors = new Map<string, TinyTensor>(tinyTensors(undefined, "BF16"));
    tensors.set(NORM, tinyTensors().get(NORM) as TinyTensor);
    await using checkpoint = await Checkpoint.open(await write({ "model.safetensors": safetensorsBytes(tensors) }));
    expect(checkpoint.tensor(NORM).dtype).toBe("F32");
    expect(checkpoint.tensor("model.embed_tokens.weight").dtype).toBe("BF16");
    expect((await checkpoint.digests()).find(({ name }) => name === NORM)?.dtype).toBe("F32");
  });

  it.each<["F16" | "BF16", number, string]>([
    ["F16", 0x7c00, "Infinity"],
    ["F16", 0xfc00, "-Infinity"],
    ["F16", 0x7e01, "NaN"],
    ["BF16", 0x7f80, "Infinity"],
    ["BF16", 0xff80, "-Infinity"],
    ["BF16", 0xffff, "NaN"],
  ])("are refused with a %s of %i, %s", async (dtype, bits, value) => {
    const tensors = tinyTensors(undefined, dtype);
    const { bytes } = tensors.get(NORM) as TinyTensor;
    new DataView(bytes.buffer).setUint16(2 * 5, bits, true);
    const directory = await write({ "model.safetensors": safetensorsBytes(tensors) });
    await expect(checksumOf(directory)).rejects.toThrow(
      refusal("CHECKPOINT_NOT_FINITE", new RegExp(`"model.norm.weight" is ${value} at element 5`)),
    );
  });
});
