import { mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CheckpointError } from "../errors.ts";
import { importCheckpoint } from "../import-checkpoint.ts";
import { loadPackage } from "../package/load-package.ts";
import { CheckpointDirectory } from "../testing/checkpoint-directory.ts";
import { type CheckpointContents, checkpointMutation, mutateCheckpoint } from "../testing/checkpoint-mutations.ts";
import { readNaively } from "../testing/naive-checkpoint.ts";
import { shardedFiles, TINY_CONFIG, TINY_SPEC, tinyTensors } from "../testing/tiny-checkpoint.ts";
import { fixtureFile } from "../testing/tokenizer-fixture.ts";

/** Fewer than of opened checkpoints: an import takes 20 times as long. Another number and seed by these names. */
const MUTATIONS = Number(process.env["IMPORT_MUTATIONS"] ?? 100);
const MUTATION_SEED = Number(process.env["MUTATION_SEED"] ?? 1);

/** For many more mutations than usual. */
const TIMEOUT_MS = 3_600_000;

const base: CheckpointContents = new Map(
  Object.entries({
    "config.json": JSON.stringify(TINY_CONFIG),
    ...shardedFiles(tinyTensors(TINY_SPEC, "BF16"), 2),
    "tokenizer.json": fixtureFile("byte-level", "tokenizer.json"),
    "tokenizer_config.json": fixtureFile("byte-level", "tokenizer_config.json"),
  }).flatMap(([name, data]) => (data === undefined ? [] : [[name, Buffer.from(data)] as const])),
);

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "mutated-import-"));
});
afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});

describe("the import of a mutated checkpoint", () => {
  it(
    "leaves nothing, or a package of exactly those tensors",
    async () => {
      await mkdir(join(work, "checkpoint"));
      const directory = new CheckpointDirectory(join(work, "checkpoint"));
      const out = join(work, "package");
      let imported = 0;
      const check = async (files: CheckpointContents) => {
        directory.write(files);
        try {
          await importCheckpoint(directory.path, out);
        } catch (error) {
          if (!(error instanceof CheckpointError)) throw error;
          expect(await readdir(work)).toEqual(["checkpoint"]);
          return;
        }
        imported++;
        const { manifest } = await loadPackage(out);
        const tensors = [...readNaively(files)].map(([name, { dtype, shape, sha256 }]) => ({
          name,
          dtype,
          shape,
          sha256,
        }));
        expect(manifest.provenance.tensors).toEqual(tensors);
        await rm(out, { recursive: true });
        expect(await readdir(work)).toEqual(["checkpoint"]);
      };
      await check(base);
      await fc.assert(
        fc.asyncProperty(checkpointMutation(Object.keys(TINY_CONFIG)), (one) => check(mutateCheckpoint(base, one))),
        { numRuns: MUTATIONS, seed: MUTATION_SEED },
      );
      expect(imported).toBeGreaterThan(MUTATIONS / 20);
      expect(imported).toBeLessThan(MUTATIONS / 2);
    },
    TIMEOUT_MS,
  );
});
