import { describe, expect, test } from "vitest";
import { canonicalJson, type JsonValue } from "./canonical-json.ts";
import { diffVersions } from "./diff-versions.ts";
import { writtenVersion } from "./testing/written-files.ts";
import type { VectorVersion } from "./vector-file.ts";
import { IMPORTED_FORMAT_VERSION, type VectorManifest } from "./vector-manifest.ts";

const version = writtenVersion();
const directionAt = (layer: number) => version.directions.get(layer) as Float32Array;

function changed(change: object, directions: VectorVersion["directions"] = version.directions): VectorVersion {
  return { manifest: { ...version.manifest, ...change } as VectorManifest, directions };
}

test("a version does not differ from itself", () => {
  const { layers, fields } = diffVersions(version, writtenVersion());
  expect(fields).toEqual([]);
  expect(layers.map(({ layer }) => layer)).toEqual([2, 3, 10, 21]);
  for (const layer of layers) {
    expect(layer.cosine).toBeCloseTo(1, 12);
    expect(layer.referenceNormRatio).toBe(1);
  }
});

describe("layers", () => {
  test("have the cosine of their directions and the ratio of their reference norms, the other's over the first's", () => {
    const turned = new Map([...version.directions].map(([layer, v]) => [layer, layer === 3 ? v.map((x) => -x) : v]));
    const { layers, fields } = diffVersions(version, changed({ referenceNorms: [8, 17, 12.25, 100.125] }, turned));
    expect(layers[1]).toEqual({
      layer: 3,
      cosine: expect.closeTo(-1, 12),
      referenceNorm: 8.5,
      otherReferenceNorm: 17,
      referenceNormRatio: 2,
    });
    expect(layers[0]?.cosine).toBeCloseTo(1, 12);
    expect(fields).toEqual([]);
  });

  test("that only one of them has are told with that one's norm alone", () => {
    const directions = new Map([
      [3, directionAt(3)],
      [5, directionAt(2)],
    ]);
    const other = changed({ layers: [3, 5], referenceNorms: [8.5, 9] }, directions);
    const { layers } = diffVersions(version, other);
    expect(layers.map(({ layer }) => layer)).toEqual([2, 3, 5, 10, 21]);
    expect(layers[0]).toEqual({ layer: 2, referenceNorm: 8 });
    expect(layers[2]).toEqual({ layer: 5, otherReferenceNorm: 9 });
    expect(diffVersions(other, version).layers[2]).toEqual({ layer: 5, referenceNorm: 9 });
  });

  test("of another width have no cosine", () => {
    const narrow = new Map([...version.directions].map(([layer, v]) => [layer, v.slice(1)]));
    const { layers, fields } = diffVersions(version, changed({ hiddenSize: 11 }, narrow));
    expect(layers.every((layer) => !("cosine" in layer))).toBe(true);
    expect(fields).toEqual([{ field: "hiddenSize", value: 12, otherValue: 11 }]);
  });
});

describe("fields", () => {
  test("are told with both values, in the order of their names", () => {
    const { fields } = diffVersions(version, changed({ pairCount: 65, name: "gloomy", createdBy: "maya" }));
    expect(fields).toEqual([
      { field: "createdBy", otherValue: "maya" },
      { field: "name", value: 'fröhlich "1"', otherValue: "gloomy" },
      { field: "pairCount", value: 64, otherValue: 65 },
    ]);
  });

  test("of an import beside an extraction are those that only one has", () => {
    const { name, modelChecksum, hiddenSize, layerCount, site, layers, referenceNorms } = version.manifest;
    const origin = {
      kind: "imported",
      format: "gguf",
      producer: "repeng",
      fileDigest: "4".repeat(64),
      norms: [1, 1, 1, 1],
    };
    const manifest = {
      formatVersion: IMPORTED_FORMAT_VERSION,
      name,
      modelChecksum,
      hiddenSize,
      layerCount,
      site,
      layers,
      referenceNorms,
      origin,
    } as VectorManifest;
    const { fields } = diffVersions(version, { manifest, directions: version.directions });
    expect(fields).toContainEqual({ field: "formatVersion", value: 1, otherValue: 2 });
    expect(fields).toContainEqual({ field: "method", value: "MEAN_DIFF" });
    expect(fields).toContainEqual({ field: "origin.producer", otherValue: "repeng" });
    expect(fields.map(({ field }) => field)).not.toContain("name");
  });

  test("are JSON", () => {
    const diff = diffVersions(version, changed({ quality: [] }));
    expect(JSON.parse(canonicalJson(diff as unknown as JsonValue))).toEqual(diff);
  });
});
