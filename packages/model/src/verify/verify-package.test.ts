import { cp, mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { modelChecksum } from "../checkpoint/model-checksum.ts";
import { buildBody, GraphWeights, type PrecisionName, type SteeringParts, WEIGHT } from "../graph/index.ts";
import { importCheckpoint } from "../import-checkpoint.ts";
import { graphDigest, sha256Hex, tokenizerDigest } from "../package/digests.ts";
import { tokenizerFiles } from "../package/load-package.ts";
import { type ModelManifest, parseManifest } from "../package/manifest.ts";
import { CHECK_NAMES, type CheckName } from "./check.ts";
import { type VerifyReport, verifyPackage } from "./verify-package.ts";

const STARTER = fileURLToPath(new URL("../../../../models/starter", import.meta.url));

let shared: string;
let folder: string;

beforeAll(async () => {
  shared = await mkdtemp(join(tmpdir(), "model-verify-"));
  await importCheckpoint(STARTER, join(shared, "float32"));
});
afterAll(() => rm(shared, { recursive: true }));
beforeEach(async () => {
  folder = join(await mkdtemp(join(tmpdir(), "model-verify-")), "package");
  await cp(join(shared, "float32"), folder, { recursive: true });
});
afterEach(() => rm(join(folder, ".."), { recursive: true }));

const verify = (directory = folder) => verifyPackage(directory, { threads: 1 });

function outcomes({ checks }: VerifyReport): Partial<Record<CheckName, string>> {
  return Object.fromEntries(checks.map(({ name, outcome }) => [name, outcome]));
}

function failed(report: VerifyReport): CheckName[] {
  return report.checks.filter(({ outcome }) => outcome === "failed").map(({ name }) => name);
}

function messageOf({ checks }: VerifyReport, name: CheckName): string {
  return checks.find((check) => check.name === name)?.message ?? "";
}

/** Change files of the package, and write a manifest in whose eyes all of it is as it should be. */
async function forge(
  changes: Readonly<Record<string, Uint8Array | string>>,
  edit: (manifest: ModelManifest) => void = () => {},
): Promise<void> {
  const path = join(folder, "manifest.json");
  const manifest = parseManifest(await readFile(path, "utf8"));
  for (const [name, content] of Object.entries(changes)) {
    await writeFile(join(folder, name), content);
    if (name !== manifest.weightsFile) {
      const bytes = Buffer.from(content);
      manifest.files[name] = { bytes: bytes.byteLength, sha256: sha256Hex(bytes) };
    }
  }
  const weights = await readFile(join(folder, manifest.weightsFile));
  for (const weight of manifest.weights) {
    weight.sha256 = sha256Hex(weights.subarray(weight.offset, weight.offset + weight.byteLength));
  }
  edit(manifest);
  const digestOf = (name: string) => manifest.files[name]?.sha256 as string;
  const byRole = Object.fromEntries(Object.entries(manifest.graphs).map(([role, name]) => [role, digestOf(name)]));
  const byName = Object.fromEntries(tokenizerFiles(manifest.files).map((name) => [name, digestOf(name)]));
  manifest.graphDigest = graphDigest(byRole, manifest.weights);
  manifest.tokenizerDigest = tokenizerDigest(byName, manifest.tokens);
  manifest.modelChecksum = modelChecksum(manifest.spec, manifest.provenance.tensors);
  await writeFile(path, JSON.stringify(manifest));
}

async function manifestOf(): Promise<ModelManifest> {
  return parseManifest(await readFile(join(folder, "manifest.json"), "utf8"));
}

describe("a sound package", () => {
  it("passes every check, in order, with progress", async () => {
    const progress: string[] = [];
    const results: string[] = [];
    const report = await verifyPackage(folder, {
      threads: 1,
      onProgress: ({ check, done, total }) => {
        expect(done).toBeLessThanOrEqual(total);
        progress.push(check);
      },
      onResult: ({ name }) => results.push(name),
    });
    expect(report.checks.map(({ name, outcome }) => `${name} ${outcome}`)).toEqual(
      CHECK_NAMES.map((name) => `${name} passed`),
    );
    expect(report.passed).toBe(true);
    expect(results).toEqual(CHECK_NAMES);
    expect(new Set(progress)).toContain("steering-delta");
    const delta = report.checks.find(({ name }) => name === "steering-delta");
    expect(delta?.figures["moved"]).toBeGreaterThan(0.01);
    expect(delta?.figures["largestRelativeError"]).toBeLessThan(1e-6);
  });

  it.each<PrecisionName>(["int8", "int4"])("of %s as well", async (precision) => {
    const directory = join(shared, precision);
    await importCheckpoint(STARTER, directory, { precision });
    expect(failed(await verify(directory))).toEqual([]);
  });

  it("of bfloat16 passes what needs no accelerator, and says what was not run and why", async () => {
    const directory = join(shared, "bfloat16");
    await importCheckpoint(STARTER, directory, { precision: "bfloat16" });
    const report = await verify(directory);
    expect(report.passed).toBe(true);
    const passed = ["files", "identities", "weights", "graphs", "tokenizer", "chat-template"];
    expect(outcomes(report)).toEqual(
      Object.fromEntries(CHECK_NAMES.map((name) => [name, passed.includes(name) ? "passed" : "skipped"])),
    );
    expect(messageOf(report, "logits")).toContain('bfloat16 needs the provider "cuda"');
  });

  it("ends with the signal's reason", async () => {
    const stop = new AbortController();
    const onProgress = () => stop.abort(new Error("enough"));
    await expect(verifyPackage(folder, { threads: 1, signal: stop.signal, onProgress })).rejects.toThrow("enough");
  });
});

describe("a package that is not what its manifest says", () => {
  it("names every file that differs, and runs none of it", async () => {
    const body = await readFile(join(folder, "body.onnx"));
    body[100] = (body[100] as number) ^ 1;
    await writeFile(join(folder, "body.onnx"), body);
    await rm(join(folder, "tokenizer.json"));
    const report = await verify();
    expect(failed(report)).toEqual(["files"]);
    expect(messageOf(report, "files")).toMatch(/"body\.onnx" has sha256 .*"tokenizer\.json" is missing/);
    expect(outcomes(report)).toMatchObject({ identities: "passed", logits: "skipped", "chat-template": "skipped" });
  });

  it("of weights that are cut off", async () => {
    await truncate(join(folder, "weights.bin"), 4096);
    expect(failed(await verify())).toEqual(["files"]);
  });

  it("of an identity that is not its own", async () => {
    const path = join(folder, "manifest.json");
    const manifest = await manifestOf();
    await writeFile(path, JSON.stringify({ ...manifest, modelChecksum: "0".repeat(64) }));
    const report = await verify();
    expect(failed(report)).toEqual(["identities"]);
    expect(messageOf(report, "identities")).toContain("modelChecksum");
  });

  it("cannot be verified at all without a manifest", async () => {
    await writeFile(join(folder, "manifest.json"), "{}");
    await expect(verify()).rejects.toMatchObject({ reason: "MODEL_PACKAGE_CORRUPT" });
    await expect(verify(join(folder, "nowhere"))).rejects.toMatchObject({ reason: "MODEL_PACKAGE_NOT_FOUND" });
  });
});

describe("a package that agrees with itself and is wrong", () => {
  const weightBytes = async (name: string, change: (values: Float32Array) => void) => {
    const { weights, weightsFile } = await manifestOf();
    const bytes = new Uint8Array(await readFile(join(folder, weightsFile)));
    const at = weights.find((weight) => weight.name === name);
    if (at === undefined) throw new Error(`no weight ${name}`);
    change(new Float32Array(bytes.buffer, at.offset, at.byteLength / 4));
    await forge({ [weightsFile]: bytes });
  };

  it("has a weight that is no number", async () => {
    await weightBytes(WEIGHT.down(3), (values) => {
      values[17] = Number.NaN;
    });
    const report = await verify();
    expect(failed(report)).toEqual(expect.arrayContaining(["weights", "logits"]));
    expect(messageOf(report, "weights")).toContain('element 17 of tensor "layers.3.down"');
    expect(outcomes(report)).toMatchObject({ files: "passed", identities: "passed", graphs: "passed" });
  });

  it("has weights that overflow, though each is finite", async () => {
    await weightBytes(WEIGHT.down(2), (values) => values.fill(3e38));
    const report = await verify();
    expect(failed(report)).toContain("logits");
    expect(outcomes(report)).toMatchObject({ weights: "passed" });
  });

  const body = async (change: { steering: SteeringParts; residuals?: boolean }) => {
    const { spec, precision, weights, weightsFile } = await manifestOf();
    const table = new GraphWeights(weights, weightsFile, precision);
    return buildBody(spec, table, { steering: change.steering, residuals: change.residuals ?? false });
  };

  it("has a serving graph with steering compiled out", async () => {
    await forge({ "body.onnx": await body({ steering: "off" }) });
    const report = await verify();
    expect(failed(report)).toEqual(["graphs", "batch-independence", "steering-delta", "steering-projections"]);
    expect(messageOf(report, "graphs")).toMatch(/^body: not what .* made by older code\. .* again with --overwrite$/);
    expect(messageOf(report, "batch-independence")).toContain("is steered, and as it is unsteered");
  });

  it("has steering compiled out of both graphs", async () => {
    await forge({
      "body.onnx": await body({ steering: "off" }),
      "body-capture.onnx": await body({ steering: "off", residuals: true }),
    });
    const report = await verify();
    expect(failed(report)).toEqual(
      expect.arrayContaining(["steering-delta", "steering-projections", "steering-renorm"]),
    );
    expect(messageOf(report, "steering-delta")).toMatch(
      /must move element \d+ of the residual by .*; it moved by 0\.000/,
    );
  });

  it("has a graph that cannot rescale or project, by another version", async () => {
    const both = {
      "body.onnx": await body({ steering: "add" }),
      "body-capture.onnx": await body({ steering: "add", residuals: true }),
    };
    await forge(both, (manifest) => {
      manifest.provenance.importer = "another/9";
    });
    const report = await verify();
    expect(failed(report)).toEqual(["steering-projections", "steering-renorm"]);
    expect(outcomes(report)).toMatchObject({ graphs: "skipped", "steering-delta": "passed" });
    expect(messageOf(report, "graphs")).toMatch(/^made by another\/9; .* again with --overwrite$/);
  });

  it("lacks a graph", async () => {
    await rm(join(folder, "head-score.onnx"));
    await forge({}, (manifest) => {
      delete manifest.graphs["head-score"];
      delete manifest.files["head-score.onnx"];
    });
    const report = await verify();
    expect(failed(report)).toEqual(["graphs", "loading"]);
    expect(outcomes(report)).toMatchObject({ runtime: "passed", logits: "skipped", "steering-renorm": "skipped" });
  });

  it("has a graph that is none", async () => {
    await forge({ "head-top.onnx": "not a graph" });
    expect(failed(await verify())).toEqual(["graphs", "loading"]);
  });

  it("has a tokenizer that does not load", async () => {
    await forge({ "tokenizer.json": "{}" });
    const unread = await verify();
    expect(failed(unread)).toEqual(["tokenizer"]);
    expect(messageOf(unread, "chat-template")).toBe("not run: the tokenizer does not load");
  });
});
