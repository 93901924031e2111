import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FLOAT32 } from "./graph/index.ts";
import { importCheckpoint } from "./import-checkpoint.ts";
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

  it("recognises a package that is already there, without writing", async () => {
    const { manifest } = await importCheckpoint(checkpoint, out);
    const before = await stat(join(out, "manifest.json"));
    const again = await importCheckpoint(checkpoint, out);
    expect(again).toMatchObject({ outcome: "unchanged", manifest });
    expect((await stat(join(out, "manifest.json"))).ino).toBe(before.ino);
    expect((await importCheckpoint(checkpoint, out, { overwrite: true })).outcome).toBe("unchanged");
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

  it("reports bytes up to the total", async () => {
    const seen: { phase: string; done: number; total: number }[] = [];
    await importCheckpoint(checkpoint, out, { onProgress: (progress) => seen.push(progress) });
    expect(seen.every(({ done, total }, i) => done <= total && done >= (seen[i - 1]?.done ?? 0))).toBe(true);
    expect(seen.at(-1)?.done).toBe(seen.at(-1)?.total);
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
    const tokenizer = JSON.parse(fixtureFile("byte-level", "tokenizer.json")) as { added_tokens: object[] };
    tokenizer.added_tokens.push({ id: TINY_SPEC.vocabulary, content: "<|new|>", special: true, normalized: false });
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
