import { describe, expect, test } from "vitest";
import type { ContrastivePairs } from "./contrastive-pairs.ts";
import { extract } from "./extract.ts";
import type { LayerQuality } from "./extraction.ts";
import { requireSeparation, separates, separationFloor } from "./separation.ts";
import { gaussian, randomVector, reasonOf, uniform } from "./testing/support.ts";

const HIDDEN = 64;
const baseline = { means: [randomVector(gaussian(99), HIDDEN)], referenceNorms: [8] };

/** Pairs far apart along one axis, the hardest case for shuffled labels: any axis found is the true one, of either sign. */
function clearPairs(count: number, seed: number): ContrastivePairs {
  const next = gaussian(seed);
  const side = (sign: number) =>
    Array.from({ length: count }, () => {
      const v = randomVector(next, HIDDEN);
      v[0] = (v[0] as number) + 6 * sign;
      return [v];
    });
  return { positive: side(1), negative: side(-1) };
}

/** Each pair keeps or exchanges its sides by a coin. */
function withShuffledLabels({ positive, negative }: ContrastivePairs, seed: number): ContrastivePairs {
  const next = uniform(seed);
  const swaps = positive.map(() => next() < 0.5);
  const pick = (a: ContrastivePairs["positive"], b: ContrastivePairs["positive"]) =>
    a.map((side, i) => (swaps[i] ? (b[i] as Float32Array[]) : side));
  return { positive: pick(positive, negative), negative: pick(negative, positive) };
}

const extraction = (pairs: ContrastivePairs) => extract({ pairs, baseline, layers: [0] });
const qualityOf = (pairs: ContrastivePairs) => extraction(pairs).layers[0]?.quality as LayerQuality;

describe("shuffled labels", () => {
  const runs = Array.from({ length: 40 }, (_, seed) => {
    const pairs = withShuffledLabels(clearPairs(120, seed), seed + 1000);
    return { pairs, quality: qualityOf(pairs) };
  });

  test("give a held-out AUC of 0.5 ± 0.1", () => {
    const aucs = runs.map(({ quality }) => quality.auc);
    const mean = aucs.reduce((sum, value) => sum + value, 0) / aucs.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.03);
    // ± 0.1 is two standard deviations at 120 pairs.
    expect(aucs.filter((value) => Math.abs(value - 0.5) > 0.1).length).toBeLessThanOrEqual(4);
  });

  test("are refused, every time", () => {
    for (const { pairs } of runs) {
      expect(reasonOf(() => requireSeparation(extraction(pairs)))).toBe("NO_SEPARATION");
    }
  });

  test.each([4, 6, 8, 12, 16, 24])("are refused with %i pairs too, in at least 39 of 40 cases", (count) => {
    const passed = Array.from({ length: 40 }, (_, seed) => seed).filter((seed) =>
      separates(qualityOf(withShuffledLabels(clearPairs(count, seed), seed + 500)), count),
    );
    expect(passed.length).toBeLessThanOrEqual(1);
  });

  test("are told from true labels: those pass, from ten pairs on", () => {
    for (const count of [10, 16, 40, 120]) {
      expect(() => requireSeparation(extraction(clearPairs(count, count)))).not.toThrow();
    }
    expect(reasonOf(() => requireSeparation(extraction(clearPairs(8, 8))))).toBe("NO_SEPARATION");
  });
});

describe("the verdict", () => {
  test("asks more of fewer pairs", () => {
    expect(separationFloor(9)).toBe(1);
    expect(separationFloor(16)).toBe(0.875);
    expect(separationFloor(100)).toBe(0.65);
    expect(separationFloor(1024)).toBe(0.65);
  });

  test("needs both figures", () => {
    expect(separates({ auc: 0.9, rightSignShare: 0.9 }, 100)).toBe(true);
    expect(separates({ auc: 0.9, rightSignShare: 0.6 }, 100)).toBe(false);
    expect(separates({ auc: 0.6, rightSignShare: 0.9 }, 100)).toBe(false);
    expect(separates({ auc: Number.NaN, rightSignShare: 0.9 }, 100)).toBe(false);
  });

  test("is given for the layers in use, and says what would help", () => {
    const noise = withShuffledLabels(clearPairs(30, 1), 2);
    expect(() => requireSeparation(extraction(noise), [0])).toThrow(
      /layer 0: held-out AUC 0\.\d+ .* 30 pairs .* more of them/,
    );
    expect(() => requireSeparation(extraction(noise), [])).not.toThrow();
    expect(reasonOf(() => requireSeparation(extraction(noise), [1]))).toBe("LAYER_OUT_OF_RANGE");
  });
});
