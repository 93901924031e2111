import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { canonicalJson } from "./canonical-json.ts";
import { type ComposeOptions, compose } from "./compose.ts";
import type { CompositionPolicy } from "./composition.ts";
import { describeComposition } from "./describe-composition.ts";
import type { Term } from "./term.ts";
import { gaussian, randomVector } from "./testing/support.ts";
import { writtenVersion } from "./testing/written-files.ts";
import { decodeVector, encodeVector, type VectorVersion } from "./vector-file.ts";
import { normalize } from "./vector-math.ts";

const HIDDEN = 12;
const model = { hiddenSize: HIDDEN, layerCount: 24, capHundredths: 50 };

/** The terms of versions, as the registry and the worker make them. */
function termsOf(versions: readonly VectorVersion[], alphas: readonly number[]): Term[] {
  return versions.map(({ manifest, directions }, index) => ({
    id: `term ${index}`,
    alphaHundredths: alphas[index] as number,
    directions: new Map(
      manifest.layers.map((layer, at) => [
        layer,
        { direction: directions.get(layer) as Float32Array, referenceNorm: manifest.referenceNorms[at] as number },
      ]),
    ),
  }));
}

function randomVersion(seed: number, layers: readonly number[], norms: readonly number[]): VectorVersion {
  const { manifest } = writtenVersion();
  const next = gaussian(seed);
  const quality = "quality" in manifest ? layers.map(() => manifest.quality[0]) : [];
  return {
    manifest: { ...manifest, layers, referenceNorms: norms.map(Math.fround), quality } as VectorVersion["manifest"],
    directions: new Map(layers.map((layer) => [layer, normalize(randomVector(next, HIDDEN))])),
  };
}

const someVersions = fc.array(
  fc.record({
    seed: fc.nat(),
    layers: fc.uniqueArray(fc.nat({ max: 4 }), { minLength: 1, maxLength: 3 }),
    norm: fc.double({ min: 0.01, max: 1000, noNaN: true }),
    alpha: fc.integer({ min: -30, max: 30 }),
  }),
  { minLength: 1, maxLength: 4 },
);
const policies = fc.constantFrom<CompositionPolicy>("ACCEPT", "SCALE", "ORTHOGONALIZE", "REJECT");

test("a composition of versions that were read back is that of the versions, to the bit", () => {
  const outcomes = new Set<string>();
  fc.assert(
    fc.property(someVersions, policies, (specs, policy) => {
      const versions = specs.map(({ seed, layers, norm }) => {
        const ascending = layers.toSorted((a, b) => a - b);
        return randomVersion(
          seed,
          ascending,
          ascending.map((layer) => norm * (layer + 1)),
        );
      });
      const alphas = specs.map(({ alpha }) => alpha);
      const composeAll = (of: readonly VectorVersion[]) => compose({ ...model, policy, terms: termsOf(of, alphas) });
      const composition = composeAll(versions);
      const again = composeAll(versions.map((version) => decodeVector(encodeVector(version))));
      expect(again).toEqual(composition);
      expect(canonicalJson(describeComposition(again))).toBe(canonicalJson(describeComposition(composition)));
      outcomes.add(composition.outcome);
    }),
    { numRuns: 400 },
  );
  expect([...outcomes].sort()).toEqual(["ACCEPTED", "ORTHOGONALIZED", "REJECTED", "SCALED"]);
});

describe("a description", () => {
  const describedOf = (options: Partial<ComposeOptions>) =>
    describeComposition(compose({ terms: [], ...model, ...options }));
  const version = randomVersion(5, [2, 4], [3.3, 7]);

  test("has every number of the composition as it was computed, also after a detour through JSON", () => {
    const terms = termsOf([version, randomVersion(6, [4], [6.9])], [30, 25]);
    const composition = compose({ ...model, policy: "SCALE", capHundredths: 30, terms });
    const described = describeComposition(composition);
    const read = JSON.parse(canonicalJson(described)) as typeof described;
    expect(read).toEqual(described);
    expect(read.outcome).toBe("SCALED");
    expect(read.factor).toBe("factor" in composition ? composition.factor : 0);
    expect(read.factor).toBeLessThan(1);
    expect(read.totalDose).toBe(composition.totalDose);
    expect(read.layers).toHaveLength(2);
    for (const [i, layer] of composition.layers.entries()) {
      expect(read.layers[i]).toEqual({ ...layer, gram: [...layer.gram] });
    }
    expect(read.layers[1]?.terms).toEqual([0, 1]);
    expect(read.layers[1]?.gram).toHaveLength(4);
    expect(read.findings).toEqual(composition.findings);
  });

  test("of what was refused has factor 1 and every finding", () => {
    const described = describedOf({ terms: termsOf([version], [60]) });
    expect(described).toMatchObject({ outcome: "REJECTED", factor: 1, totalDose: 0, layers: [] });
    expect(described.findings).toMatchObject([{ reason: "ALPHA_OVER_CAP", term: 0, details: { alpha: 60, cap: 50 } }]);
  });

  test("says what JSON cannot as null, and in details as text", () => {
    const [term] = termsOf([version], [Number.NaN]);
    const described = describedOf({ terms: [term as Term] });
    expect(described.findings[0]?.details).toMatchObject({ alpha: "NaN" });
    const directions = new Map([[2, { direction: version.directions.get(2) as Float32Array, referenceNorm: 1e308 }]]);
    const overflown = describedOf({ terms: [{ id: "huge", alphaHundredths: 50, directions }] });
    expect(overflown.findings[0]?.reason).toBe("VECTOR_NOT_FINITE");
    expect(overflown).toMatchObject({ totalDose: null, layers: [{ layer: 2, dose: null, referenceNorm: 1e308 }] });
    const elsewhere = describedOf({ terms: [{ ...(term as Term), alphaHundredths: 1, layers: [Number.NaN] }] });
    expect(elsewhere.findings[0]).toMatchObject({ reason: "LAYER_OUT_OF_RANGE", details: { layer: "NaN" } });
    for (const each of [described, overflown, elsewhere]) expect(JSON.parse(canonicalJson(each))).toEqual(each);
  });

  test("has no minus zero, which JSON does not tell from 0", () => {
    const directions = new Map([[2, { direction: version.directions.get(2) as Float32Array, referenceNorm: -0 }]]);
    const refused = describedOf({ terms: [{ id: "no norm", alphaHundredths: 10, directions }] });
    expect(Object.is(refused.findings[0]?.details["referenceNorm"], 0)).toBe(true);
    expect(() => canonicalJson(refused)).not.toThrow();
  });

  test("keeps nothing of the composition's buffers", () => {
    const composition = compose({ ...model, terms: termsOf([version], [10]) });
    const described = describeComposition(composition);
    const before = canonicalJson(described);
    for (const { gram } of composition.layers) gram.fill(7);
    expect(canonicalJson(described)).toBe(before);
  });
});
