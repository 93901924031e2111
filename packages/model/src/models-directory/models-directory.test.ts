import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { isModelName, modelNameOf, modelsDirectory, resolveModel } from "./models-directory.ts";

describe("modelsDirectory", () => {
  const at = (models?: string, dataHome?: string) => modelsDirectory({ models, dataHome, cwd: "/work" });

  it("is PERSONA_MODELS, else in the data folder, else in the home", () => {
    expect(at("/models", "/data")).toBe("/models");
    expect(at("models", "/data")).toBe("/work/models");
    expect(at(undefined, "/data")).toBe("/data/persona-mesh/models");
    expect(at("", "/data")).toBe("/data/persona-mesh/models");
    expect(at(undefined, undefined)).toBe(join(homedir(), ".local/share/persona-mesh/models"));
    expect(at(undefined, "data")).toBe(join(homedir(), ".local/share/persona-mesh/models"));
  });
});

describe("resolveModel", () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "models-directory-"));
    for (const path of ["here/both", "models/both", "models/named"])
      await mkdir(join(folder, path), { recursive: true });
  });
  afterEach(() => rm(folder, { recursive: true }));

  const resolved = (argument: string) =>
    resolveModel(argument, { models: join(folder, "models"), dataHome: undefined, cwd: join(folder, "here") });

  it("takes a directory that is here, then a name", async () => {
    expect(await resolved("both")).toBe(join(folder, "here/both"));
    expect(await resolved("named")).toBe(join(folder, "models/named"));
  });

  it("takes whatever has a separator, or cannot be a name, as a path", async () => {
    expect(await resolved("./named")).toBe(join(folder, "here/named"));
    expect(await resolved("../models/named")).toBe(join(folder, "models/named"));
    expect(await resolved("..")).toBe(folder);
    expect(await resolved(join(folder, "nowhere"))).toBe(join(folder, "nowhere"));
  });

  it("says where it looked for a name that no model has", async () => {
    await expect(resolved("neither")).rejects.toMatchObject({
      reason: "MODEL_PACKAGE_NOT_FOUND",
      message: expect.stringContaining(join(folder, "models")),
    });
  });
});

describe("modelNameOf", () => {
  it.each([
    ["/checkpoints/Llama-3.2-1B", "Llama-3.2-1B"],
    ["/hub/models--meta--Llama-3.2-1B/snapshots/4e20de362430cd3b72f300e6b0f18e50e7166e08", "Llama-3.2-1B"],
    ["/checkpoints/my model (new)", "my-model-new-"],
    ["/checkpoints/.hidden", "hidden"],
    ["/", undefined],
    ["/模型", undefined],
  ])("of %s is %s", (directory, name) => {
    expect(modelNameOf(directory)).toBe(name);
    if (name !== undefined) expect(isModelName(name)).toBe(true);
  });
});
