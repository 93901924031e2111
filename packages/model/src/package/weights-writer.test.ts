import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Checkpoint } from "../checkpoint/checkpoint.ts";
import { PRECISION_NAMES, planWeights, precisionOf } from "../graph/index.ts";
import { safetensorsBytes, TINY_CONFIG, tinyTensors, writeTinyCheckpoint } from "../testing/tiny-checkpoint.ts";
import { sha256Hex } from "./digests.ts";
import { placeWeights, weightsFileBytes } from "./weights-layout.ts";
import { writeWeights } from "./weights-writer.ts";

let work: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "weights-writer-"));
});
afterEach(async () => {
  await rm(work, { recursive: true, force: true });
});

describe("writeWeights", () => {
  it.each(PRECISION_NAMES)("writes the same file in threads as without: %s", async (name) => {
    const directory = await writeTinyCheckpoint(join(work, "checkpoint"));
    const files: Buffer[] = [];
    for (const threadsFrom of [undefined, 1]) {
      await using checkpoint = await Checkpoint.open(directory);
      const plan = planWeights(checkpoint.config.spec, checkpoint.config.source, precisionOf(name));
      const places = placeWeights(plan);
      const path = join(work, `${name}-${threadsFrom}.bin`);
      const options = { memory: 1e9, threads: 2, ...(threadsFrom !== undefined && { threadsFrom }) };
      const weights = await writeWeights(path, plan, places, checkpoint, options);
      const file = await readFile(path);
      expect(file.byteLength).toBe(weightsFileBytes(places));
      let end = 0;
      for (const [index, { sha256, ...place }] of weights.entries()) {
        expect(place).toEqual(places[index]);
        expect(place.offset % 4096).toBe(0);
        expect(file.subarray(end, place.offset).every((byte) => byte === 0)).toBe(true);
        end = place.offset + place.byteLength;
        expect(sha256Hex(file.subarray(place.offset, end))).toBe(sha256);
      }
      files.push(file);
    }
    expect(files[0]?.equals(files[1] as Buffer)).toBe(true);
  });

  it("records what it read, and reads nothing again", async () => {
    await using checkpoint = await Checkpoint.open(await writeTinyCheckpoint(join(work, "checkpoint")));
    const plan = planWeights(checkpoint.config.spec);
    await writeWeights(join(work, "weights.bin"), plan, placeWeights(plan), checkpoint, { memory: 0 });
    let again = 0;
    const digests = await checkpoint.digests({
      onBytes: (bytes) => {
        again += bytes;
      },
    });
    expect(again).toBe(0);
    await using other = await Checkpoint.open(join(work, "checkpoint"));
    expect(digests).toEqual(await other.digests());
  });

  it("reads a tied head in a format of its own from the embedding", async () => {
    const config = { ...TINY_CONFIG, tie_word_embeddings: true };
    const tensors = tinyTensors();
    tensors.delete("lm_head.weight");
    const weights = safetensorsBytes(tensors);
    await using checkpoint = await Checkpoint.open(await writeTinyCheckpoint(join(work, "tied"), { config, weights }));
    const precision = precisionOf("int8", { embedding: "float32", head: "int8" });
    const plan = planWeights(checkpoint.config.spec, checkpoint.config.source, precision);
    const written = await writeWeights(join(work, "weights.bin"), plan, placeWeights(plan), checkpoint, { memory: 0 });
    expect(written.map(({ name }) => name)).toEqual(expect.arrayContaining(["embedding", "head", "head.scales"]));
  });
});
