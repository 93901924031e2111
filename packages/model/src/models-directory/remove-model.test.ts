import { mkdir, mkdtemp, readdir, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SharedWeights } from "@persona-mesh/onnx";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { importCheckpoint } from "../import-checkpoint.ts";
import { loadPackage } from "../package/load-package.ts";
import { writeTinyCheckpoint } from "../testing/tiny-checkpoint.ts";
import { listModels } from "./list-models.ts";
import { removeModel } from "./remove-model.ts";

let folder: string;
let models: string;
let model: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "models-"));
  models = join(folder, "models");
  model = join(models, "tiny");
  await importCheckpoint(await writeTinyCheckpoint(join(folder, "checkpoint")), model);
});
afterEach(() => rm(folder, { recursive: true }));

describe("listModels", () => {
  it("lists packages by name, and nothing where there is no directory", async () => {
    await importCheckpoint(join(folder, "checkpoint"), join(models, "another"));
    await writeFile(join(models, "notes.txt"), "");
    await mkdir(join(models, ".tiny.staged-1-abc"));
    const listed = await listModels(models);
    expect(listed.map(({ kind, name }) => [kind, name])).toEqual([
      ["model", "another"],
      ["model", "tiny"],
    ]);
    expect(listed[1]).toMatchObject({ directory: model, manifest: { spec: { architecture: "llama" } } });
    expect(await listModels(join(folder, "nowhere"))).toEqual([]);
  });

  it("shows what is damaged with what is wrong, and hides none of it", async () => {
    await importCheckpoint(join(folder, "checkpoint"), join(models, "edited"));
    await truncate(join(models, "edited", "manifest.json"), 100);
    await mkdir(join(models, "empty"));
    await symlink(join(folder, "gone"), join(models, "link"));
    await rm(join(model, "tokenizer.json"));
    expect(await listModels(models)).toMatchObject([
      { kind: "damaged", name: "edited", reason: "MODEL_PACKAGE_CORRUPT" },
      { kind: "damaged", name: "empty", reason: "MODEL_PACKAGE_NOT_FOUND" },
      { kind: "damaged", name: "link", reason: "MODEL_PACKAGE_NOT_FOUND" },
      { kind: "damaged", name: "tiny", reason: "MODEL_PACKAGE_CORRUPT", message: '"tokenizer.json" is missing' },
    ]);
    await writeFile(join(model, "tokenizer.json"), "{}");
    expect((await listModels(models)).at(-1)).toMatchObject({ message: expect.stringContaining("has 2 bytes") });
  });
});

describe("removeModel", () => {
  it("removes a package, whole or damaged, and leaves nothing behind", async () => {
    const { manifest } = await loadPackage(model);
    const { bytes } = await removeModel(model);
    expect(bytes).toBeGreaterThan(manifest.weightBytes);
    expect(await readdir(models)).toEqual([]);
    await importCheckpoint(join(folder, "checkpoint"), model);
    await truncate(join(model, "weights.bin"), 0);
    await truncate(join(model, "manifest.json"), 200);
    await removeModel(model);
    expect(await readdir(models)).toEqual([]);
  });

  it("removes nothing that is not a package, and none that holds other files", async () => {
    const kept = join(folder, "kept");
    await mkdir(kept);
    await writeFile(join(kept, "manifest.json"), '{"format": "mine"}');
    await symlink(model, join(models, "link"));
    const refused = (path: string, reason: string) => expect(removeModel(path)).rejects.toMatchObject({ reason });
    await refused(kept, "MODEL_PACKAGE_NOT_FOUND");
    await refused(join(models, "link"), "MODEL_PACKAGE_NOT_FOUND");
    await refused(join(folder, "nowhere"), "MODEL_PACKAGE_NOT_FOUND");
    await refused(models, "MODEL_PACKAGE_NOT_FOUND");
    await writeFile(join(model, "thesis.txt"), "");
    await expect(removeModel(model)).rejects.toMatchObject({
      reason: "MODEL_PACKAGE_HAS_OTHER_FILES",
      message: expect.stringContaining('"thesis.txt"'),
    });
    expect(await readdir(folder)).toEqual(["checkpoint", "kept", "models"]);
    expect(await readdir(models)).toEqual(["link", "tiny"]);
    expect(await readdir(kept)).toEqual(["manifest.json"]);
  });

  it.runIf(process.platform === "linux")("refuses one that a process has open, until it is closed", async () => {
    const { manifest, weightsPath } = await loadPackage(model);
    const weights = SharedWeights.open(
      weightsPath,
      manifest.weights.map(({ dtype, ...rest }) => ({ ...rest, type: dtype })),
    );
    try {
      await expect(removeModel(model)).rejects.toMatchObject({
        reason: "MODEL_PACKAGE_IN_USE",
        message: expect.stringContaining(String(process.pid)),
      });
    } finally {
      weights.close();
    }
    await removeModel(model);
  });
});
