import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { CheckpointDirectory } from "../testing/checkpoint-directory.ts";
import { type CheckpointContents, checkpointMutation, mutateCheckpoint } from "../testing/checkpoint-mutations.ts";
import { type NaiveTensor, readNaively } from "../testing/naive-checkpoint.ts";
import {
  safetensorsBytes,
  shardedFiles,
  TINY_CONFIG,
  TINY_SPEC,
  type TinyTensor,
  tinyTensors,
} from "../testing/tiny-checkpoint.ts";
import { Checkpoint } from "./checkpoint.ts";
import { expectedTensors } from "./expected-tensors.ts";
import { modelChecksum } from "./model-checksum.ts";

/** Mutated copies in all. Another number, and another seed, by environment variables of these names. */
const MUTATIONS = Number(process.env["MUTATIONS"] ?? 10_000);
const MUTATION_SEED = Number(process.env["MUTATION_SEED"] ?? 1);

/** Longest that opening and reading a copy may take, whatever else the machine does; the usual time is 2 ms. */
const HANG_MS = 10_000;

/** For many more mutations than usual. */
const TIMEOUT_MS = 3_600_000;

const SPEC = { ...TINY_SPEC, vocabulary: 16 };
const CONFIG = { ...TINY_CONFIG, vocab_size: 16 };
const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";

const f32 = tinyTensors(SPEC);
const mixed = new Map([...tinyTensors(SPEC, "BF16")].map(([name, t], i) => [name, i % 2 ? t : (f32.get(name) ?? t)]));
const repeated = tinyTensors(SPEC, "F16");
repeated.set(HEAD, repeated.get(EMBEDDING) as TinyTensor);

const bases: readonly [string, CheckpointContents][] = [
  ["one file, F32", contents(CONFIG, { "model.safetensors": safetensorsBytes(f32) })],
  ["one file, BF16", contents(CONFIG, { "model.safetensors": safetensorsBytes(tinyTensors(SPEC, "BF16")) })],
  [
    "one file, F16, tied head repeated",
    contents({ ...CONFIG, tie_word_embeddings: true }, { "model.safetensors": safetensorsBytes(repeated) }),
  ],
  ["three shards, F32 and BF16", contents(CONFIG, shardedFiles(mixed, 3))],
  ["two shards, F16", contents(CONFIG, shardedFiles(tinyTensors(SPEC, "F16"), 2))],
];

function contents(
  config: unknown,
  files: Readonly<Record<string, Uint8Array | string | undefined>>,
): Map<string, Buffer> {
  const all = Object.entries({ "config.json": JSON.stringify(config), ...files });
  return new Map(all.flatMap(([name, data]) => (data === undefined ? [] : [[name, Buffer.from(data)] as const])));
}

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "mutated-"));
});
afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});

describe("a mutated checkpoint", () => {
  // Reading a small checkpoint is mostly waiting for the file system: all bases at once.
  it.concurrent.each(bases)(
    "is refused by a stable reason, or read as what it says: %s",
    async (_, base) => {
      const directory = new CheckpointDirectory(await mkdtemp(join(work, "copy-")));
      const runs = Math.ceil(MUTATIONS / bases.length);
      let opened = 0;
      let slowest = 0;
      const checksums = new Map<string, string>();
      const check = async (files: CheckpointContents) => {
        directory.write(files);
        const start = performance.now();
        const result = await open(directory.path);
        slowest = Math.max(slowest, performance.now() - start);
        if (result instanceof CheckpointError) {
          expect(result.message.length).toBeLessThan(2000);
          return;
        }
        opened++;
        compare(result, JSON.parse(String(files.get("config.json"))), readNaively(files), checksums);
      };
      await check(base);
      expect(opened).toBe(1);
      const mutation = checkpointMutation(Object.keys(CONFIG));
      const mutations = fc.oneof({ weight: 3, arbitrary: fc.tuple(mutation) }, fc.tuple(mutation, mutation));
      await fc.assert(
        fc.asyncProperty(mutations, (list) => check(list.reduce<CheckpointContents>(mutateCheckpoint, base))),
        { numRuns: runs, seed: MUTATION_SEED },
      );
      // Most mutations must be noticed, and some must not matter: otherwise this test tests nothing.
      expect(opened).toBeGreaterThan(runs / 20);
      expect(opened).toBeLessThan(runs / 2);
      expect(checksums.size).toBeGreaterThan(1);
      expect(new Set(checksums.values()).size).toBe(checksums.size);
      expect(slowest).toBeLessThan(HANG_MS);
    },
    TIMEOUT_MS,
  );
});

type Opened = Pick<Checkpoint["config"], "spec"> & { values: Map<string, Float32Array>; checksum: string };

async function open(directory: string): Promise<Opened | CheckpointError> {
  try {
    await using checkpoint = await Checkpoint.open(directory);
    const values = new Map<string, Float32Array>();
    for (const name of checkpoint.tensors.keys()) values.set(name, await checkpoint.read(name));
    const { spec } = checkpoint.config;
    return { spec, values, checksum: modelChecksum(spec, await checkpoint.digests()) };
  } catch (error) {
    if (error instanceof CheckpointError) return error;
    throw error;
  }
}

/** @param checksums - what each checksum stands for, of all copies so far */
function compare(
  { spec, values, checksum }: Opened,
  config: Record<string, unknown>,
  tensors: Map<string, NaiveTensor>,
  checksums: Map<string, string>,
): void {
  if (spec.tiedEmbeddings && tensors.has(HEAD)) {
    expect(tensors.get(HEAD)).toEqual(tensors.get(EMBEDDING));
    tensors.delete(HEAD);
  }
  const expected = expectedTensors(spec, { fusedProjections: false });
  expect(new Map([...tensors].map(([name, { shape }]) => [name, shape]))).toEqual(new Map([...expected].sort()));
  for (const [name, converted] of values) {
    expect(converted).toEqual(tensors.get(name)?.values);
    expect(converted.every(Number.isFinite)).toBe(true);
  }
  expect(spec).toMatchObject({
    layers: config["num_hidden_layers"],
    hidden: config["hidden_size"],
    heads: config["num_attention_heads"],
    kvHeads: config["num_key_value_heads"] ?? config["num_attention_heads"],
    tiedEmbeddings: config["tie_word_embeddings"] ?? false,
    intermediate: config["intermediate_size"],
    vocabulary: config["vocab_size"],
    contextTokens: config["max_position_embeddings"],
    normEps: config["rms_norm_eps"],
  });
  // Here and at the end: two copies have one checksum exactly if they are one model.
  const { contextTokens: _, ...computation } = spec;
  const parts = [...tensors].map(([name, { dtype, shape, sha256 }]) => [name, dtype, shape, sha256]);
  const meaning = JSON.stringify([computation, parts]);
  expect(checksums.get(checksum) ?? meaning).toBe(meaning);
  checksums.set(checksum, meaning);
}
