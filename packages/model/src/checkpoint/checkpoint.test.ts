import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from "node:fs/promises";
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
import type { ElementType } from "./element-types.ts";
import { modelChecksum } from "./model-checksum.ts";

let work: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "checkpoint-"));
});
afterEach(async () => {
  await rm(work, { recursive: true, force: true });
});

const TIED = { ...TINY_CONFIG, tie_word_embeddings: true };
const QUERY = "model.layers.0.self_attn.q_proj.weight";

/** Open, read everything, close. */
async function readAll(directory: string): Promise<string> {
  await using checkpoint = await Checkpoint.open(directory);
  return modelChecksum(checkpoint.config.spec, await checkpoint.digests());
}

async function withTensors(change: (tensors: Map<string, TinyTensor>) => void, config: unknown = TINY_CONFIG) {
  const tensors = tinyTensors();
  change(tensors);
  return writeTinyCheckpoint(join(work, "c"), { config, weights: safetensorsBytes(tensors) });
}

function put(tensor: TinyTensor, index: number, value: number): TinyTensor {
  const bytes = Uint8Array.from(tensor.bytes);
  new DataView(bytes.buffer).setFloat32(4 * index, value, true);
  return { ...tensor, bytes };
}

const refusal = (reason: string, message: RegExp) =>
  expect.objectContaining({ reason, message: expect.stringMatching(message) });

describe("Checkpoint", () => {
  it("is known by a checksum of weights and computation, and by nothing else", async () => {
    const base = await readAll(await withTensors(() => {}));
    const same = [
      await withTensors((tensors) => {
        // The order in the file is not part of the model.
        const reversed = [...tensors].reverse();
        tensors.clear();
        for (const [name, tensor] of reversed) tensors.set(name, tensor);
      }),
      await withTensors(() => {}, { ...TINY_CONFIG, max_position_embeddings: 64, transformers_version: "9" }),
    ];
    for (const directory of same) expect(await readAll(directory)).toBe(base);
    const other = [
      () => withTensors((tensors) => tensors.set(QUERY, put(tensors.get(QUERY) as TinyTensor, 3, 0.5))),
      () => withTensors(() => {}, { ...TINY_CONFIG, rms_norm_eps: 1e-6 }),
      () => withTensors(() => {}, { ...TINY_CONFIG, rope_parameters: { rope_theta: 5000, rope_type: "default" } }),
      () =>
        withTensors((tensors) => {
          const names = ["input_layernorm", "post_attention_layernorm"].map((n) => `model.layers.0.${n}.weight`);
          const [a, b] = names.map((name) => tensors.get(name) as TinyTensor) as [TinyTensor, TinyTensor];
          tensors.set(names[0] as string, b).set(names[1] as string, a);
        }),
    ];
    const seen = new Set([base]);
    for (const make of other) seen.add(await readAll(await make()));
    expect(seen.size).toBe(other.length + 1);
  });

  it("gives the values of a tensor", async () => {
    await using checkpoint = await Checkpoint.open(await withTensors(() => {}));
    const name = "model.norm.weight";
    const index = [...tinyTensors().keys()].indexOf(name);
    expect(await checkpoint.read(name)).toEqual(
      Float32Array.from({ length: TINY_SPEC.hidden }, (_, i) => index + i / 1024),
    );
  });

  it.each([
    [
      "a missing tensor",
      refusal("CHECKPOINT_TENSOR_MISMATCH", /q_proj.weight" \[32,8\] is missing/),
      (t: Map<string, TinyTensor>) => t.delete(QUERY),
    ],
    [
      "a surplus tensor",
      refusal("CHECKPOINT_TENSOR_MISMATCH", /q_proj.bias" is not part of/),
      (t: Map<string, TinyTensor>) =>
        t.set("model.layers.0.self_attn.q_proj.bias", t.get("model.norm.weight") as TinyTensor),
    ],
    [
      "a layer too many",
      refusal("CHECKPOINT_TENSOR_MISMATCH", /layers.1.self_attn.q_proj.weight" is not part of/),
      (t: Map<string, TinyTensor>) => t.set(QUERY.replace(".0.", ".1."), t.get(QUERY) as TinyTensor),
    ],
    [
      "a transposed tensor",
      refusal("CHECKPOINT_TENSOR_MISMATCH", /q_proj.weight" is \[8,32\]; config.json makes it \[32,8\]/),
      (t: Map<string, TinyTensor>) => t.set(QUERY, { ...(t.get(QUERY) as TinyTensor), shape: [8, 32] }),
    ],
    [
      "a quantised tensor",
      refusal("CHECKPOINT_UNSUPPORTED", /q_proj.weight" is I8; supported: F32, F16, BF16. Quantised/),
      (t: Map<string, TinyTensor>) => {
        const { shape, bytes } = t.get(QUERY) as TinyTensor;
        t.set(QUERY, { dtype: "I8", shape, bytes: bytes.subarray(0, bytes.byteLength / 4) });
      },
    ],
  ])("refuses %s", async (_, expected, change) => {
    await expect(readAll(await withTensors((tensors) => void change(tensors)))).rejects.toThrow(expected);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    "refuses %d among the weights, and says where",
    async (value) => {
      const directory = await withTensors((tensors) =>
        tensors.set(QUERY, put(tensors.get(QUERY) as TinyTensor, 17, value)),
      );
      await expect(readAll(directory)).rejects.toThrow(
        refusal("CHECKPOINT_NOT_FINITE", new RegExp(`q_proj.weight" is ${value} at element 17`)),
      );
    },
  );

  it("takes the largest finite weights", async () => {
    const max = 3.4028234663852886e38;
    const directory = await withTensors((tensors) => {
      tensors.set(QUERY, put(put(tensors.get(QUERY) as TinyTensor, 0, max), 1, -max));
    });
    await expect(readAll(directory)).resolves.toMatch(/^[0-9a-f]{64}$/);
  });

  it("leaves out a head that repeats the embedding it is tied to, and refuses one that does not", async () => {
    const tied = await readAll(await withTensors((tensors) => tensors.delete("lm_head.weight"), TIED));
    const embedding = (tensors: Map<string, TinyTensor>) => tensors.get("model.embed_tokens.weight") as TinyTensor;
    const repeated = await withTensors((tensors) => tensors.set("lm_head.weight", embedding(tensors)), TIED);
    expect(await readAll(repeated)).toBe(tied);
    const differing = await withTensors(
      (tensors) => tensors.set("lm_head.weight", put(embedding(tensors), 1, 9)),
      TIED,
    );
    await expect(readAll(differing)).rejects.toThrow(refusal("CHECKPOINT_TENSOR_MISMATCH", /lm_head.weight" differs/));
  });

  it("compares a tied head by its bytes, wherever it lies and whatever its type", async () => {
    const name = "model.embed_tokens.weight";
    const weights = (dtype: ElementType, head: TinyTensor) =>
      new Map([...tinyTensors(TINY_SPEC, dtype), ["lm_head.weight", head] as const]);
    const embedding = (dtype: ElementType) => tinyTensors(TINY_SPEC, dtype).get(name) as TinyTensor;
    const write = (tensors: ReadonlyMap<string, TinyTensor>) =>
      writeTinyCheckpoint(join(work, "c"), { config: TIED, files: shardedFiles(tensors, 5) });
    for (const dtype of ["F32", "F16", "BF16"] as const) {
      await expect(readAll(await write(weights(dtype, embedding(dtype))))).resolves.toBeDefined();
      const last = Uint8Array.from(embedding(dtype).bytes);
      last[last.byteLength - 1] = 0x12;
      for (const head of [
        { ...embedding(dtype), bytes: last },
        { ...embedding(dtype), shape: [TINY_SPEC.hidden, TINY_SPEC.vocabulary] },
        embedding(dtype === "F32" ? "BF16" : "F32"),
      ]) {
        await expect(readAll(await write(weights(dtype, head)))).rejects.toThrow(
          refusal("CHECKPOINT_TENSOR_MISMATCH", /lm_head.weight" differs from/),
        );
      }
    }
  });

  it("leaves out rotary buffers that old versions saved", async () => {
    const base = await readAll(await withTensors(() => {}));
    const old = await withTensors((tensors) =>
      tensors.set("model.layers.0.self_attn.rotary_emb.inv_freq", tensors.get("model.norm.weight") as TinyTensor),
    );
    expect(await readAll(old)).toBe(base);
  });

  it.each(["config.json", "model.safetensors"])("says when %s is missing", async (name) => {
    const directory = await writeTinyCheckpoint(join(work, "c"));
    await rm(join(directory, name));
    await expect(readAll(directory)).rejects.toThrow(refusal("CHECKPOINT_NOT_FOUND", new RegExp(name)));
  });

  it("says what a directory without config.json has instead", async () => {
    const directory = await writeTinyCheckpoint(join(work, "c"));
    await rm(join(directory, "config.json"));
    await writeFile(join(directory, "adapter_model.safetensors"), "");
    await expect(readAll(directory)).rejects.toThrow(refusal("CHECKPOINT_UNSUPPORTED", /is an adapter, not a model/));
  });

  it("says when the directory is missing or is a file", async () => {
    await writeFile(join(work, "file"), "");
    for (const path of [join(work, "nothing"), join(work, "file")]) {
      await expect(readAll(path)).rejects.toMatchObject({ reason: "CHECKPOINT_NOT_FOUND" });
    }
  });

  it.each(["config.json", "model.safetensors"])(
    "refuses %s as a link out of the directory, or as a directory",
    async (name) => {
      const directory = await writeTinyCheckpoint(join(work, "c"));
      await writeFile(join(work, "secret"), "{}");
      await rm(join(directory, name));
      await symlink("../secret", join(directory, name));
      await expect(readAll(directory)).rejects.toThrow(refusal("CHECKPOINT_UNSAFE_PATH", new RegExp(name)));
      await rm(join(directory, name));
      await mkdir(join(directory, name));
      await expect(readAll(directory)).rejects.toThrow(refusal("CHECKPOINT_UNSAFE_PATH", new RegExp(name)));
    },
  );

  it("follows the links of the Hub's cache, and no others from there", async () => {
    const snapshot = await writeTinyCheckpoint(join(work, "models--a--b/snapshots/0123"));
    const blobs = join(work, "models--a--b/blobs");
    await mkdir(blobs);
    await rename(join(snapshot, "model.safetensors"), join(blobs, "ab12"));
    await symlink("../../blobs/ab12", join(snapshot, "model.safetensors"));
    await expect(readAll(snapshot)).resolves.toBeDefined();
    await rename(join(blobs, "ab12"), join(work, "models--a--b/ab12"));
    await symlink("../ab12", join(blobs, "ab12"));
    await expect(readAll(snapshot)).rejects.toMatchObject({ reason: "CHECKPOINT_UNSAFE_PATH" });
  });

  it("follows a link to a sibling", async () => {
    const directory = await writeTinyCheckpoint(join(work, "c"), { files: { "weights-v1": "" } });
    await writeFile(join(directory, "weights-v1"), safetensorsBytes(tinyTensors()));
    await rm(join(directory, "model.safetensors"));
    await symlink("weights-v1", join(directory, "model.safetensors"));
    await expect(readAll(directory)).resolves.toBeDefined();
  });

  it.each([
    ["text that is not JSON", "{"],
    ["a list", "[]"],
    ["a key given twice", '{"model_type":"llama","model_type":"llama"}'],
    ["a billion brackets' beginning", "[".repeat(100_000)],
    ["text that is not UTF-8", "\ud800"],
  ])("refuses config.json with %s", async (_, text) => {
    const directory = await writeTinyCheckpoint(join(work, "c"));
    await writeFile(join(directory, "config.json"), text === "\ud800" ? Uint8Array.of(0x22, 0xff, 0x22) : text);
    await expect(readAll(directory)).rejects.toMatchObject({ reason: "CHECKPOINT_CONFIG_INVALID" });
  });

  it("stops between tensors when aborted", async () => {
    await using checkpoint = await Checkpoint.open(await withTensors(() => {}));
    const controller = new AbortController();
    let tensors = 0;
    const reading = checkpoint.digests({
      signal: controller.signal,
      onBytes: () => {
        if (++tensors === 3) controller.abort();
      },
    });
    await expect(reading).rejects.toThrow(/abort/i);
    expect(tensors).toBe(3);
  });
});
