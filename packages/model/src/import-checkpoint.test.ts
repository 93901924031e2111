import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FLOAT32, PRECISION_NAMES, precisionOf } from "./graph/index.ts";
import { type ImportOptions, importCheckpoint } from "./import-checkpoint.ts";
import { removeModel } from "./models-directory/remove-model.ts";
import type { ImportProgress } from "./package/import-progress.ts";
import { loadPackage } from "./package/load-package.ts";
import {
  safetensorsBytes,
  TINY_CONFIG,
  TINY_SPEC,
  type TinyTensor,
  tinyTensors,
  writeTinyCheckpoint,
} from "./testing/tiny-checkpoint.ts";
import { fixtureFile } from "./testing/tokenizer-fixture.ts";
import { loadTokenizer } from "./tokenizer/load-tokenizer.ts";

let work: string;
let checkpoint: string;
let out: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "model-import-"));
  checkpoint = await writeTinyCheckpoint(join(work, "checkpoint"));
  out = join(work, "package");
});
afterEach(async () => {
  await rm(work, { recursive: true, force: true });
});

const EXISTS = { reason: "MODEL_PACKAGE_EXISTS" };
const OTHER_MODEL = { config: { ...TINY_CONFIG, rms_norm_eps: 1e-6 } };

describe("importCheckpoint", () => {
  it("makes a package that loads, and nothing beside it", async () => {
    const { manifest, outcome, directory } = await importCheckpoint(checkpoint, out);
    expect(outcome).toBe("created");
    expect(directory).toBe(out);
    const loaded = await loadPackage(out);
    expect(loaded.manifest).toEqual(manifest);
    expect(manifest).toMatchObject({ spec: TINY_SPEC, precision: FLOAT32, tokens: { bos: 0, eos: [1] } });
    expect(manifest.provenance.source).toBe("checkpoint");
    expect(JSON.stringify(manifest)).not.toContain(work);
    const { tokenizer, chatTemplate } = await loadTokenizer(loaded);
    expect(chatTemplate?.render([{ role: "user", content: "Hi" }]).text).toBe("<|bos|><|user|>Hi<|end|><|assistant|>");
    expect(tokenizer.vocabularySize).toBeLessThanOrEqual(TINY_SPEC.vocabulary);
    expect((await readdir(work)).sort()).toEqual(["checkpoint", "package"]);
    expect((await readdir(out)).sort()).toEqual(
      [...Object.keys(manifest.files), "manifest.json", "weights.bin"].sort(),
    );
  });

  it("takes a guard's baseline along, outside of the identity, and never over one that is there", async () => {
    const baselineOf = (folder: string) => readFile(join(folder, "guard-baseline.json"), "utf8");
    const plain = (await importCheckpoint(checkpoint, out)).manifest;
    await writeFile(join(checkpoint, "guard-baseline.json"), "measured");
    expect(await importCheckpoint(checkpoint, out)).toMatchObject({ outcome: "unchanged" });
    expect(await baselineOf(out)).toBe("measured");
    await writeFile(join(out, "guard-baseline.json"), "our own");
    expect(await importCheckpoint(checkpoint, out)).toMatchObject({ outcome: "unchanged" });
    expect(await baselineOf(out)).toBe("our own");
    const { provenance: _, ...identity } = plain;
    expect((await importCheckpoint(checkpoint, join(work, "second"))).manifest).toMatchObject(identity);
    expect(await baselineOf(join(work, "second"))).toBe("measured");
    expect((await readdir(out)).filter((name) => name.includes("baseline"))).toEqual(["guard-baseline.json"]);
    expect(await removeModel(out)).toMatchObject({ directory: out });
  });

  it("gives the same digests from the same checkpoint, whenever and wherever it is imported", async () => {
    const elsewhere = await writeTinyCheckpoint(join(work, "elsewhere"));
    const first = (await importCheckpoint(checkpoint, out)).manifest;
    const second = (await importCheckpoint(elsewhere, join(work, "second"))).manifest;
    const { provenance: _, ...rest } = first;
    expect(second).toMatchObject(rest);
  });

  it("changes the model checksum with the model, the tokenizer digest with the tokenizer", async () => {
    const base = (await importCheckpoint(checkpoint, out)).manifest;
    const model = (await importCheckpoint(await writeTinyCheckpoint(join(work, "m"), OTHER_MODEL), join(work, "pm")))
      .manifest;
    expect(model.modelChecksum).not.toBe(base.modelChecksum);
    expect(model.graphDigest).not.toBe(base.graphDigest);
    expect(model.tokenizerDigest).toBe(base.tokenizerDigest);
    const files = { "chat_template.jinja": "{{ messages[0].content }}" };
    const text = (await importCheckpoint(await writeTinyCheckpoint(join(work, "t"), { files }), join(work, "pt")))
      .manifest;
    expect(text.modelChecksum).toBe(base.modelChecksum);
    expect(text.graphDigest).toBe(base.graphDigest);
    expect(text.tokenizerDigest).not.toBe(base.tokenizerDigest);
  });

  it.each(["float32", "int4"] as const)(
    "recognises a package in %s that is already there, without writing",
    async (precision) => {
      const { manifest } = await importCheckpoint(checkpoint, out, { precision });
      expect(manifest.precision).toEqual(precisionOf(precision));
      const before = await stat(join(out, "manifest.json"));
      const phases = new Set<string>();
      const onProgress = ({ phase }: ImportProgress) => phases.add(phase);
      const again = await importCheckpoint(checkpoint, out, { precision, onProgress });
      expect(again).toMatchObject({ outcome: "unchanged", manifest });
      expect([...phases]).toEqual(["verifying", "checking"]);
      expect((await stat(join(out, "manifest.json"))).ino).toBe(before.ino);
      expect((await importCheckpoint(checkpoint, out, { precision, overwrite: true })).outcome).toBe("unchanged");
    },
  );

  it("takes another precision, block or context of the same checkpoint for another package, without reading", async () => {
    const given: ImportOptions = { precision: "int8", block: 32, head: "int8", contextTokens: 32 };
    const { manifest } = await importCheckpoint(checkpoint, out, given);
    const onProgress = () => {
      throw new Error("weights were read");
    };
    const others: ImportOptions[] = [
      { precision: "int4" },
      { block: 128 },
      { head: "float32" },
      { embedding: "int4" },
      { contextTokens: 16 },
    ];
    for (const other of others) {
      await expect(importCheckpoint(checkpoint, out, { ...given, ...other, onProgress })).rejects.toMatchObject(EXISTS);
    }
    const replaced = await importCheckpoint(checkpoint, out, { ...given, contextTokens: 16, overwrite: true });
    expect(replaced.outcome).toBe("replaced");
    expect(replaced.manifest.modelChecksum).toBe(manifest.modelChecksum);
    expect(replaced.manifest.spec.contextTokens).toBe(16);
  });

  it("keeps the model checksum and changes the graph digest with the precision", async () => {
    const manifests = [];
    for (const precision of PRECISION_NAMES) {
      manifests.push((await importCheckpoint(checkpoint, join(work, precision), { precision })).manifest);
    }
    expect(new Set(manifests.map(({ modelChecksum }) => modelChecksum)).size).toBe(1);
    expect(new Set(manifests.map(({ graphDigest }) => graphDigest)).size).toBe(PRECISION_NAMES.length);
  });

  it("refuses choices that there are not", async () => {
    const wrong: ImportOptions[] = [
      { precision: "int2" as "int4" },
      { precision: "int4", block: 64 as 32 },
      { block: 32 },
      { precision: "bfloat16", head: "int8" },
    ];
    for (const options of wrong) await expect(importCheckpoint(checkpoint, out, options)).rejects.toThrow(RangeError);
    expect(await readdir(work)).toEqual(["checkpoint"]);
  });

  it("refuses to touch another package unless asked, and then replaces all of it", async () => {
    const { manifest } = await importCheckpoint(checkpoint, out);
    const other = await writeTinyCheckpoint(join(work, "other"), OTHER_MODEL);
    await expect(importCheckpoint(other, out)).rejects.toMatchObject(EXISTS);
    expect((await loadPackage(out)).manifest).toEqual(manifest);
    const replaced = await importCheckpoint(other, out, { overwrite: true });
    expect(replaced.outcome).toBe("replaced");
    expect((await loadPackage(out)).manifest).toEqual(replaced.manifest);
    expect((await readdir(work)).sort()).toEqual(["checkpoint", "other", "package"]);
  });

  it("replaces a damaged package when asked", async () => {
    await importCheckpoint(checkpoint, out);
    await writeFile(join(out, "weights.bin"), "");
    await expect(importCheckpoint(checkpoint, out)).rejects.toMatchObject(EXISTS);
    expect((await importCheckpoint(checkpoint, out, { overwrite: true })).outcome).toBe("replaced");
    await expect(loadPackage(out)).resolves.toBeDefined();
  });

  it("never replaces what is not a package", async () => {
    await mkdir(out);
    await writeFile(join(out, "thesis.txt"), "three years");
    for (const target of [out, join(out, "thesis.txt"), checkpoint]) {
      await expect(importCheckpoint(checkpoint, target, { overwrite: true })).rejects.toMatchObject(EXISTS);
    }
    expect(await readFile(join(out, "thesis.txt"), "utf8")).toBe("three years");
  });

  it("takes an empty directory, and makes the ones above", async () => {
    await mkdir(out);
    expect((await importCheckpoint(checkpoint, out)).outcome).toBe("created");
    expect((await importCheckpoint(checkpoint, join(work, "a/b/c"))).outcome).toBe("created");
  });

  it("leaves nothing behind when it is aborted, at any point", async () => {
    const points: number[] = [];
    await importCheckpoint(checkpoint, out, { onProgress: ({ done }) => points.push(done) });
    await rm(out, { recursive: true });
    expect(points.length).toBeGreaterThan(5);
    for (let stop = 0; stop < points.length; stop++) {
      const controller = new AbortController();
      let calls = 0;
      const importing = importCheckpoint(checkpoint, out, {
        signal: controller.signal,
        onProgress: () => {
          if (calls++ === stop) controller.abort();
        },
      });
      await expect(importing).rejects.toThrow(/abort/i);
      expect(await readdir(work)).toEqual(["checkpoint"]);
    }
  });

  it("leaves nothing behind when a weight is not finite, and keeps the package that was there", async () => {
    const { manifest } = await importCheckpoint(checkpoint, out);
    const tensors = tinyTensors();
    const bytes = Uint8Array.from((tensors.get("lm_head.weight") as TinyTensor).bytes);
    new DataView(bytes.buffer).setFloat32(0, Number.NaN, true);
    tensors.set("lm_head.weight", { ...(tensors.get("lm_head.weight") as TinyTensor), bytes });
    const broken = await writeTinyCheckpoint(join(work, "broken"), { weights: safetensorsBytes(tensors) });
    await expect(importCheckpoint(broken, out, { overwrite: true })).rejects.toMatchObject({
      reason: "CHECKPOINT_NOT_FINITE",
    });
    expect((await loadPackage(out)).manifest).toEqual(manifest);
    expect((await readdir(work)).sort()).toEqual(["broken", "checkpoint", "package"]);
  });

  it("clears what a killed import left", async () => {
    const code = `import(${JSON.stringify(new URL("./index.ts", import.meta.url))}).then(({ importCheckpoint }) =>
      importCheckpoint(${JSON.stringify(checkpoint)}, ${JSON.stringify(out)}, {
        onProgress: () => process.kill(process.pid, "SIGKILL"),
      }))`;
    expect(spawnSync(process.execPath, ["--eval", code]).signal).toBe("SIGKILL");
    expect(await readdir(work)).toEqual([expect.stringMatching(/^\.package\.staged-/), "checkpoint"]);
    expect((await importCheckpoint(checkpoint, out)).outcome).toBe("created");
    expect((await readdir(work)).sort()).toEqual(["checkpoint", "package"]);
  });

  it("reports bytes up to the total of each phase, and a share of the whole that only grows", async () => {
    const tensors = tinyTensors();
    tensors.set("model.norm.weight", {
      ...(tensors.get("model.norm.weight") as TinyTensor),
      bytes: new Uint8Array(32),
    });
    const retrained = await writeTinyCheckpoint(join(work, "retrained"), { weights: safetensorsBytes(tensors) });
    const phases: string[][] = [];
    for (const [from, outcome] of [
      [checkpoint, "created"],
      [checkpoint, "unchanged"],
      [retrained, "replaced"],
    ] as const) {
      const seen: ImportProgress[] = [];
      const onProgress = (progress: ImportProgress) => seen.push(progress);
      expect((await importCheckpoint(from, out, { overwrite: true, onProgress })).outcome).toBe(outcome);
      phases.push([...new Set(seen.map(({ phase }) => phase))]);
      for (const [i, { phase, done, total, fraction }] of seen.entries()) {
        const before = seen[i - 1];
        expect(done).toBeLessThanOrEqual(total);
        if (before?.phase === phase) expect(done).toBeGreaterThan(before.done);
        else expect(before?.done).toBe(before?.total);
        expect(fraction).toBeGreaterThanOrEqual(before?.fraction ?? 0);
      }
      expect(seen.at(-1)).toMatchObject({ fraction: 1, done: seen.at(-1)?.total });
    }
    expect(phases).toEqual([["converting"], ["verifying", "checking"], ["verifying", "checking", "converting"]]);
  });

  it.each([
    ["no tokenizer.json", { "tokenizer.json": undefined }, "CHECKPOINT_NOT_FOUND"],
    ["a tokenizer that is not JSON", { "tokenizer.json": "{" }, "CHECKPOINT_TOKENIZER_INVALID"],
    ["a tokenizer of nothing", { "tokenizer.json": "{}" }, "CHECKPOINT_TOKENIZER_INVALID"],
    ["a tokenizer config that is a list", { "tokenizer_config.json": "[]" }, "CHECKPOINT_TOKENIZER_INVALID"],
    ["a chat template that does not parse", { "chat_template.jinja": "{% for %}" }, "CHECKPOINT_TOKENIZER_INVALID"],
  ])("refuses a checkpoint with %s", async (_, files, reason) => {
    const directory = await writeTinyCheckpoint(join(work, "c"), {
      files: files as Record<string, string | undefined>,
    });
    await expect(importCheckpoint(directory, out)).rejects.toMatchObject({ reason });
  });

  it("refuses a tokenizer with more tokens than the model has embeddings", async () => {
    const tokenizer = JSON.parse(fixtureFile("byte-level", "tokenizer.json")) as { model: { vocab: object } };
    Object.assign(tokenizer.model.vocab, { new: TINY_SPEC.vocabulary });
    const directory = await writeTinyCheckpoint(join(work, "c"), {
      files: { "tokenizer.json": JSON.stringify(tokenizer) },
    });
    await expect(importCheckpoint(directory, out)).rejects.toMatchObject({
      reason: "CHECKPOINT_TOKENIZER_INVALID",
      message: expect.stringContaining("ids up to 608, the model only 608 embeddings"),
    });
  });

  it("notices when the checkpoint is written to during the import", async () => {
    const file = await open(join(checkpoint, "model.safetensors"), "r+");
    const { size } = await file.stat();
    let changed = false;
    const importing = importCheckpoint(checkpoint, out, {
      onProgress: () => {
        if (changed) return;
        changed = true;
        void file.truncate(size - 4);
      },
    });
    await expect(importing).rejects.toMatchObject({ reason: "CHECKPOINT_CORRUPT" });
    await file.close();
  });
});
