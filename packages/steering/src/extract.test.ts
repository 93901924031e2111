import { describe, expect, test } from "vitest";
import type { ContrastivePairs } from "./contrastive-pairs.ts";
import type { ExtractionMethod } from "./difference-axis.ts";
import { extract } from "./extract.ts";
import type { Baseline, LayerExtraction } from "./extraction.ts";
import reference from "./fixtures/extract.json" with { type: "json" };
import { float64Of, gaussian, largestDifference, randomVector, reasonOf, rowsOf } from "./testing/support.ts";
import { cosine, dot, norm } from "./vector-math.ts";

const METHODS: readonly ExtractionMethod[] = ["MEAN_DIFF", "PCA_CENTER", "PCA_DIFF"];

/** Regroup rows [pairs × layers] as [pairs][layers]. */
function byPair(rows: readonly Float32Array[], layers: number): Float32Array[][] {
  return Array.from({ length: rows.length / layers }, (_, pair) => rows.slice(pair * layers, (pair + 1) * layers));
}

function only(layers: readonly LayerExtraction[]): LayerExtraction {
  expect(layers).toHaveLength(1);
  return layers[0] as LayerExtraction;
}

describe.each(reference)("beside NumPy and scikit-learn, $pairs pairs of $hidden", (expected) => {
  const pairs: ContrastivePairs = {
    positive: byPair(rowsOf(expected.positive, expected.hidden), expected.layers),
    negative: byPair(rowsOf(expected.negative, expected.hidden), expected.layers),
  };
  const means = rowsOf(expected.means, expected.hidden);
  const baseline: Baseline = { means, referenceNorms: means.map(() => 5) };
  const layers = means.map((_, layer) => layer);

  test.each(METHODS)("%s gives the same directions and figures", (method) => {
    const extraction = extract({ pairs, baseline, method, layers });
    expect(extraction.layers).toHaveLength(expected.layers);
    for (const [i, { direction, quality }] of extraction.layers.entries()) {
      const wanted = expected.methods[method][i];
      // A float32 direction against a float64 one: half a unit in the last place of numbers below 1.
      expect(largestDifference(direction, float64Of(wanted?.direction64 as string))).toBeLessThan(6e-8);
      for (const [figure, value] of Object.entries(wanted?.quality ?? {})) {
        expect(quality[figure as keyof typeof quality], figure).toBeCloseTo(value, 9);
      }
    }
  });

  test("the methods disagree, so that agreement with each reference means something", () => {
    const [mean, center, diff] = METHODS.map(
      (method) => extract({ pairs, baseline, method, layers: [0] }).layers[0]?.direction as Float32Array,
    ) as [Float32Array, Float32Array, Float32Array];
    for (const [a, b] of [[mean, center] as const, [mean, diff] as const, [center, diff] as const]) {
      expect(Math.abs(cosine(a, b))).toBeLessThan(0.9999);
    }
  });
});

/** Pairs that differ along `concept` by `strength` ± noise, in a residual with a mean of its own. */
function madePairs(options: { pairs: number; hidden: number; strength: number; seed?: number; layers?: number }) {
  const { pairs, hidden, strength, seed = 1, layers = 1 } = options;
  const next = gaussian(seed);
  const mean = randomVector(next, hidden).map((x) => 3 * x);
  const concept = randomVector(next, hidden);
  const length = norm(concept);
  const side = (sign: number) =>
    Array.from({ length: pairs }, () =>
      Array.from({ length: layers }, () =>
        mean.map((x, i) => x + next() + (sign * strength * (concept[i] as number)) / length),
      ),
    );
  const data: ContrastivePairs = { positive: side(1), negative: side(-1) };
  const means = Array.from({ length: layers }, () => mean);
  const baseline: Baseline = { means, referenceNorms: new Float32Array(layers).fill(norm(mean)) };
  return { pairs: data, baseline, concept };
}

describe("a direction", () => {
  test.each(METHODS)("of %s is of unit length and orthogonal to the baseline mean", (method) => {
    const { pairs, baseline } = madePairs({ pairs: 20, hidden: 48, strength: 1 });
    const { direction } = only(extract({ pairs, baseline, method, layers: [0] }).layers);
    expect(norm(direction)).toBeCloseTo(1, 6);
    expect(Math.abs(cosine(direction, baseline.means[0] as Float32Array))).toBeLessThan(1e-7);
  });

  test.each(["MEAN_DIFF", "PCA_CENTER"] as const)("of %s finds the concept, with the right sign", (method) => {
    const { pairs, baseline, concept } = madePairs({ pairs: 60, hidden: 48, strength: 4 });
    const { direction, quality } = only(extract({ pairs, baseline, method, layers: [0] }).layers);
    expect(cosine(direction, concept)).toBeGreaterThan(0.9);
    expect(quality.auc).toBeGreaterThan(0.99);
    expect(quality.rightSignShare).toBe(1);
    expect(quality.splitHalfCosine).toBeGreaterThan(0.9);
    expect(quality.normBefore).toBeGreaterThan(6);
  });

  test.each(METHODS)("of %s turns round when the sides are exchanged", (method) => {
    const { pairs, baseline } = madePairs({ pairs: 21, hidden: 32, strength: 1 });
    const there = only(extract({ pairs, baseline, method, layers: [0] }).layers);
    const swapped = { positive: pairs.negative, negative: pairs.positive };
    const back = only(extract({ pairs: swapped, baseline, method, layers: [0] }).layers);
    expect(
      largestDifference(
        there.direction,
        back.direction.map((x) => -x),
      ),
    ).toBeLessThan(1e-7);
    expect(back.quality.auc).toBeCloseTo(there.quality.auc, 12);
  });

  test.each(METHODS)("of %s has the sign that most pairs agree on", (method) => {
    const { pairs, baseline } = madePairs({ pairs: 31, hidden: 24, strength: 0.5, seed: 9 });
    const { direction } = only(extract({ pairs, baseline, method, layers: [0] }).layers);
    const right = pairs.positive.filter(
      (side, i) => dot(side[0] as Float32Array, direction) > dot(pairs.negative[i]?.[0] as Float32Array, direction),
    );
    expect(right.length).toBeGreaterThan(15);
  });

  test.each(METHODS)("of %s does not depend on the order of the pairs, but for rounding", (method) => {
    const { pairs, baseline } = madePairs({ pairs: 14, hidden: 32, strength: 1 });
    const there = only(extract({ pairs, baseline, method, layers: [0] }).layers);
    const turned = { positive: pairs.positive.toReversed(), negative: pairs.negative.toReversed() };
    const back = only(extract({ pairs: turned, baseline, method, layers: [0] }).layers);
    expect(largestDifference(there.direction, back.direction)).toBeLessThan(2e-7);
  });

  test.each(METHODS)("of %s scales with the activations: same direction, longer axis", (method) => {
    const { pairs, baseline } = madePairs({ pairs: 12, hidden: 20, strength: 1 });
    const larger = (sides: ContrastivePairs["positive"]) => sides.map((side) => side.map((v) => v.map((x) => 8 * x)));
    const scaled = { positive: larger(pairs.positive), negative: larger(pairs.negative) };
    const [one, eight] = [pairs, scaled].map((data) =>
      only(extract({ pairs: data, baseline, method, layers: [0] }).layers),
    ) as [LayerExtraction, LayerExtraction];
    expect(largestDifference(one.direction, eight.direction)).toBeLessThan(1e-7);
    expect(eight.quality.normBefore / one.quality.normBefore).toBeCloseTo(8, 9);
  });
});

test("PCA_DIFF does not see what all pairs have in common, however large", () => {
  const { pairs, baseline } = madePairs({ pairs: 30, hidden: 24, strength: 1, seed: 4 });
  // Steps of 1/64, so that float32 holds the same noise beside 2^17 as beside 0: the differences differ by the offset alone.
  const shifted = (offset: number): ContrastivePairs => ({
    positive: pairs.positive.map((side) => side.map((v) => v.map((x) => Math.round(x * 64) / 64 + offset))),
    negative: pairs.negative.map((side) => side.map((v) => v.map((x) => Math.round(x * 64) / 64))),
  });
  const [near, far] = [0, 2 ** 17].map(
    (offset) => only(extract({ pairs: shifted(offset), baseline, method: "PCA_DIFF", layers: [0] }).layers).direction,
  ) as [Float32Array, Float32Array];
  expect(Math.abs(cosine(near, far))).toBeGreaterThan(1 - 1e-9);
});

test.each(METHODS)("%s: the same inputs give the same bytes, and are only read", (method) => {
  const { pairs, baseline } = madePairs({ pairs: 40, hidden: 100, strength: 0.4, layers: 3 });
  const before = structuredClone(pairs);
  const once = extract({ pairs, baseline, method });
  const again = extract({ pairs: structuredClone(pairs), baseline: structuredClone(baseline), method });
  expect(again).toEqual(once);
  expect(pairs).toEqual(before);
});

describe("the figures on pure noise, with more hidden units than pairs", () => {
  const { pairs, baseline } = madePairs({ pairs: 60, hidden: 400, strength: 0, seed: 3 });

  test.each(METHODS)("are chance for %s: each pair is judged by a direction made without it", (method) => {
    const { direction, quality } = only(extract({ pairs, baseline, method, layers: [0] }).layers);
    expect(Math.abs(quality.auc - 0.5)).toBeLessThan(0.15);
    expect(Math.abs(quality.rightSignShare - 0.5)).toBeLessThan(0.2);
    expect(Math.abs(quality.pairwiseCosine)).toBeLessThan(0.05);
    expect(Math.abs(quality.splitHalfCosine)).toBeLessThan(0.25);
    if (method !== "MEAN_DIFF") return;
    // In-sample the same direction looks perfect, which is why nothing is judged in-sample.
    const right = pairs.positive.filter(
      (side, i) => dot(side[0] as Float32Array, direction) > dot(pairs.negative[i]?.[0] as Float32Array, direction),
    );
    expect(right.length / 60).toBeGreaterThan(0.95);
  });
});

describe("layers", () => {
  const { pairs, baseline } = madePairs({ pairs: 6, hidden: 8, strength: 2, layers: 4 });

  test("are all but the last by default", () => {
    expect(extract({ pairs, baseline }).layers.map(({ layer }) => layer)).toEqual([0, 1, 2]);
  });

  test("are those asked for, ascending", () => {
    expect(extract({ pairs, baseline, layers: [3, 1] }).layers.map(({ layer }) => layer)).toEqual([1, 3]);
  });

  test("do not influence each other", () => {
    const alone = only(extract({ pairs, baseline, layers: [2] }).layers);
    expect(extract({ pairs, baseline }).layers[2]).toEqual(alone);
  });

  test("carry their reference norm as float32", () => {
    const norms = [1.1, 2.2, 3.3, 4.4];
    const { layers } = extract({ pairs, baseline: { ...baseline, referenceNorms: norms } });
    expect(layers.map(({ referenceNorm }) => referenceNorm)).toEqual([1.1, 2.2, 3.3].map(Math.fround));
  });
});

describe("unfit activations are refused", () => {
  const good = madePairs({ pairs: 6, hidden: 8, strength: 2, layers: 2 });
  const { pairs, baseline } = good;
  const replaced = (value: Float32Array) => [[value, value], ...pairs.positive.slice(1)];
  const bad = new Float32Array(8);
  bad[7] = Number.NaN;

  test.each<[string, Partial<typeof good> & { layers?: number[] }, string]>([
    [
      "three pairs",
      { pairs: { positive: pairs.positive.slice(3), negative: pairs.negative.slice(3) } },
      "TOO_FEW_PAIRS",
    ],
    [
      "too many pairs",
      { pairs: { positive: new Array(513).fill([]), negative: new Array(513).fill([]) } },
      "TOO_MANY_PAIRS",
    ],
    ["an odd one out", { pairs: { ...pairs, negative: pairs.negative.slice(1) } }, "SHAPE_MISMATCH"],
    ["a layer missing", { pairs: { ...pairs, positive: pairs.positive.map((p) => p.slice(1)) } }, "SHAPE_MISMATCH"],
    ["another width", { pairs: { ...pairs, positive: replaced(new Float32Array(7)) } }, "VECTOR_WIDTH_MISMATCH"],
    ["NaN", { pairs: { ...pairs, positive: replaced(bad) } }, "VECTOR_NOT_FINITE"],
    ["NaN in the baseline", { baseline: { ...baseline, means: [bad, bad] } }, "VECTOR_NOT_FINITE"],
    ["a baseline of nothing", { baseline: { means: [], referenceNorms: [] } }, "SHAPE_MISMATCH"],
    ["a norm too few", { baseline: { ...baseline, referenceNorms: [1] } }, "SHAPE_MISMATCH"],
    ["a zero norm", { baseline: { ...baseline, referenceNorms: [0, 1] } }, "REFERENCE_NORM_INVALID"],
    ["a norm beyond float32", { baseline: { ...baseline, referenceNorms: [1e39, 1] } }, "REFERENCE_NORM_INVALID"],
    ["a zero baseline mean", { baseline: { ...baseline, means: [new Float32Array(8), bad] } }, "DEGENERATE_AXIS"],
    ["no layer", { layers: [] }, "LAYER_OUT_OF_RANGE"],
    ["a layer too many", { layers: [2] }, "LAYER_OUT_OF_RANGE"],
    ["a layer twice", { layers: [1, 1] }, "DUPLICATE_LAYER"],
    ["pairs without a difference", { pairs: { ...pairs, negative: pairs.positive } }, "DEGENERATE_AXIS"],
    [
      "pairs that differ along the baseline mean alone",
      {
        pairs: {
          positive: pairs.positive.map(() => [Float32Array.from({ length: 8 }, (_, i) => 2 * (i + 1)), bad]),
          negative: pairs.positive.map(() => [Float32Array.from({ length: 8 }, (_, i) => i + 1), bad]),
        },
        baseline: { ...baseline, means: [Float32Array.from({ length: 8 }, (_, i) => 3 * (i + 1)), bad] },
      },
      "DEGENERATE_AXIS",
    ],
  ])("%s", (_, change, reason) => {
    for (const method of METHODS) {
      expect(reasonOf(() => extract({ pairs, baseline, layers: [0], ...change, method }))).toBe(reason);
    }
  });

  test("some pairs without a difference count as agreeing with none", () => {
    const positive = [...pairs.positive.slice(0, 5), pairs.negative[5] as Float32Array[]];
    const { quality } = only(extract({ pairs: { ...pairs, positive }, baseline, layers: [0] }).layers);
    const all = only(extract({ pairs, baseline, layers: [0] }).layers).quality;
    expect(quality.pairwiseCosine).toBeLessThan(all.pairwiseCosine);
    expect(quality.rightSignShare).toBeLessThan(1);
  });
});
