import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { safetensorsBytes, TINY_CONFIG, tinyTensors, writeTinyCheckpoint } from "../testing/tiny-checkpoint.ts";
import { Checkpoint, type TensorDigest } from "./checkpoint.ts";
import { llamaTensors } from "./llama-tensors.ts";

/** Enough to meet every refusal a few times in seconds; more find nothing new (tried with 21,000). */
const MUTATIONS = 600;

const whole = Buffer.from(safetensorsBytes(tinyTensors()));
const headerEnd = 8 + Number(whole.readBigUInt64LE(0));

let directory: string;
beforeAll(async () => {
  directory = await writeTinyCheckpoint(await mkdtemp(join(tmpdir(), "mutated-")));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

/** Places in the file, the header ten times as often as its size says. */
const place = fc.oneof(fc.integer({ min: 0, max: headerEnd }), fc.integer({ min: 0, max: whole.byteLength - 1 }));

/** Changes to bytes: any value, cut out, put in, written twice. */
const byteMutation = fc.oneof(
  fc.tuple(place, fc.nat({ max: 255 })).map(([at, byte]) => {
    const bytes = Buffer.from(whole);
    bytes[at] = byte;
    return bytes;
  }),
  place.map((at) => whole.subarray(0, at)),
  fc
    .tuple(place, fc.integer({ min: 1, max: 64 }))
    .map(([at, n]) => Buffer.concat([whole.subarray(0, at), whole.subarray(at + n)])),
  fc
    .tuple(place, fc.uint8Array({ minLength: 1, maxLength: 16 }))
    .map(([at, more]) => Buffer.concat([whole.subarray(0, at), more, whole.subarray(at)])),
  fc
    .tuple(place, fc.integer({ min: 1, max: 200 }))
    .map(([at, n]) => Buffer.concat([whole.subarray(0, at + n), whole.subarray(at)])),
);

/** Changes to the header that keep it JSON and its length right. */
const headerMutation = fc
  .tuple(
    fc.constantFrom(...tinyTensors().keys()),
    fc.constantFrom(...tinyTensors().keys()),
    fc.constantFrom("swap", "shape", "offsets", "dtype", "rename", "copy"),
    fc.oneof(fc.integer({ min: -4, max: 5000 }), fc.constantFrom(2 ** 31, 2 ** 53, 1e300, 0.5, "4", null)),
    fc.nat({ max: 1 }),
  )
  .map(([a, b, kind, value, index]) => {
    const header = JSON.parse(whole.toString("utf8", 8, headerEnd)) as Record<string, Record<string, unknown>>;
    const entry = header[a] as Record<string, unknown>;
    const list = (field: string) => {
      const values = [...(entry[field] as unknown[])];
      values[index] = value;
      entry[field] = values;
    };
    if (kind === "swap") [header[a], header[b]] = [header[b] as typeof entry, entry];
    else if (kind === "shape") list("shape");
    else if (kind === "offsets") list("data_offsets");
    else if (kind === "dtype") entry["dtype"] = ["F16", "BF16", "I32", "F64", "f32", value][index + 2];
    else if (kind === "rename") {
      header[`${a}${value}`] = entry;
      delete header[a];
    } else header[b] = entry;
    const json = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(json.byteLength));
    return Buffer.concat([length, json, whole.subarray(headerEnd)]);
  });

const configMutation = fc
  .tuple(
    fc.oneof(fc.constantFrom(...Object.keys(TINY_CONFIG)), fc.string({ maxLength: 12 })),
    fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.integer({ min: 0, max: 700 }), fc.constantFrom(2 ** 31, 1e300, -1)),
  )
  .map(([field, value]) => JSON.stringify({ ...TINY_CONFIG, [field]: value }));

/** The tensors of a file by a reader that shares nothing with the one under test. */
function independentDigests(file: Buffer): Map<string, string> {
  const end = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString("utf8", 8, end)) as Record<string, { data_offsets: [number, number] }>;
  delete header["__metadata__"];
  const digest = ([from, to]: [number, number]) =>
    createHash("sha256")
      .update(file.subarray(end + from, end + to))
      .digest("hex");
  return new Map(Object.entries(header).map(([name, { data_offsets }]) => [name, digest(data_offsets)]));
}

async function open(): Promise<{ spec: Checkpoint["config"]["spec"]; digests: TensorDigest[] } | CheckpointError> {
  try {
    await using checkpoint = await Checkpoint.open(directory);
    return { spec: checkpoint.config.spec, digests: await checkpoint.digests() };
  } catch (error) {
    if (error instanceof CheckpointError) return error;
    throw error;
  }
}

describe("a mutated checkpoint", () => {
  it.each([
    ["bytes", byteMutation],
    ["header", headerMutation],
  ])("is refused by a stable reason, or read as it is: %s", async (_, mutation) => {
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(mutation, async (bytes) => {
        await writeFile(join(directory, "model.safetensors"), bytes);
        const result = await open();
        if (result instanceof CheckpointError) {
          refused++;
          expect(result.reason).toMatch(/^CHECKPOINT_(CORRUPT|UNSUPPORTED|TENSOR_MISMATCH|NOT_FINITE)$/);
          return;
        }
        const expected = independentDigests(bytes);
        expect(new Map(result.digests.map(({ name, sha256 }) => [name, sha256]))).toEqual(expected);
        const shapes = new Map(result.digests.map(({ name, shape }) => [name, shape]));
        expect(shapes).toEqual(new Map([...llamaTensors(result.spec)].sort(([a], [b]) => (a < b ? -1 : 1))));
      }),
      { numRuns: MUTATIONS },
    );
    // Most mutations must be noticed, and some must not matter: otherwise this test tests nothing.
    expect(refused).toBeGreaterThan(MUTATIONS / 4);
    expect(refused).toBeLessThan(MUTATIONS);
    await writeFile(join(directory, "model.safetensors"), whole);
  });

  it("is refused by a stable reason, or read as it is: config.json", async () => {
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(configMutation, async (text) => {
        await writeFile(join(directory, "config.json"), text);
        const result = await open();
        if (result instanceof CheckpointError) {
          refused++;
          expect(result.reason).toMatch(/^CHECKPOINT_(CONFIG_INVALID|UNSUPPORTED|TENSOR_MISMATCH)$/);
          return;
        }
        const config = JSON.parse(text) as Record<string, unknown>;
        expect(result.spec).toMatchObject({
          layers: config["num_hidden_layers"],
          hidden: config["hidden_size"],
          heads: config["num_attention_heads"],
          contextTokens: config["max_position_embeddings"],
          rmsNormEps: config["rms_norm_eps"],
        });
      }),
      { numRuns: MUTATIONS },
    );
    expect(refused).toBeGreaterThan(MUTATIONS / 4);
    expect(refused).toBeLessThan(MUTATIONS);
  });
});
