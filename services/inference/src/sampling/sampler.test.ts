import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { uniform } from "./random.ts";
import type { TopRow } from "./row.ts";
import { type SamplingParameters, sample } from "./sampler.ts";
import {
  EVERYTHING,
  fullRow,
  keptTokens,
  probabilities,
  sampleByDefinition,
  samplerByDefinition,
  topRow,
} from "./sampler-fixtures.ts";

const GREEDY: SamplingParameters = { ...EVERYTHING, temperature: 0 };

/** Logits of a language model's shape: a few likely tokens and a long tail. */
function peaked(vocabulary: number, seed: bigint): Float32Array {
  return Float32Array.from(
    { length: vocabulary },
    (_, id) => 6 * uniform(seed, 0, id) ** 3 - 2 * Math.log(1 + (id % 37)),
  );
}

/** The token, from the candidates if they decide and else from every logit, as the engine asks. */
function sampleId(logits: Float32Array, k: number, parameters: SamplingParameters, random: number): number {
  const first = sample(topRow(logits, k, parameters.temperature), parameters, random);
  const result = first.kind === "needFullLogits" ? sample(fullRow(logits), parameters, random) : first;
  if (result.kind !== "token") throw new Error(result.kind);
  return result.id;
}

describe("sample", () => {
  const logits = Float32Array.of(0.5, 2, -1, 2, 0, 1);

  it("takes the most likely token at temperature 0, the lower id of equal ones", () => {
    for (const row of [topRow(logits, 3, 0), fullRow(logits)]) {
      expect(sample(row, GREEDY, 0.999)).toMatchObject({ kind: "token", id: 1 });
    }
  });

  it("walks through the tokens in descending order as the random number grows", () => {
    const order = Array.from({ length: 1000 }, (_, i) => sampleId(logits, 3, EVERYTHING, i / 1000));
    expect([...new Set(order)]).toEqual([1, 3, 5, 0, 4, 2]);
  });

  it("reports log-probabilities under the unmodified distribution, whatever was cut off", () => {
    const parameters = { temperature: 0.3, topK: 2, topP: 0.9, minP: 0.1 };
    const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    for (const row of [topRow(logits, 4, 0.3), fullRow(logits)]) {
      const result = sample(row, parameters, 0.9, 3);
      if (result.kind !== "token") throw new Error(result.kind);
      expect(result.id).toBe(3);
      expect(result.logProb).toBeCloseTo(2 - total, 6);
      expect(result.alternatives.map(({ id }) => id)).toEqual([1, 3, 5]);
      expect(result.alternatives[2]?.logProb).toBeCloseTo(1 - total, 6);
    }
  });

  it("asks for every logit when more alternatives are wanted than there are candidates", () => {
    expect(sample(topRow(logits, 3, 0), GREEDY, 0, 4)).toEqual({ kind: "needFullLogits" });
    expect(sample(fullRow(logits), GREEDY, 0, 20)).toMatchObject({ alternatives: { length: 6 } });
  });

  it("never draws a token of probability 0", () => {
    const masked = Float32Array.of(Number.NEGATIVE_INFINITY, 1, Number.NEGATIVE_INFINITY, 1);
    for (const random of [0, 0.499, 0.5, 1 - 2 ** -53]) {
      expect([1, 3]).toContain(sampleId(masked, 3, EVERYTHING, random));
    }
    expect(sampleId(masked, 3, { ...EVERYTHING, topK: 4 }, 1 - 2 ** -53)).toBe(3);
  });

  it.each([
    ["NaN among the likely tokens", [Number.NaN, 1, 2]],
    ["NaN alone", [Number.NaN, Number.NaN, Number.NaN]],
    ["+Inf", [0, Number.POSITIVE_INFINITY, 2]],
    ["nothing but −Inf", new Array(3).fill(Number.NEGATIVE_INFINITY)],
  ])("says overflow for %s", (_, values) => {
    const bad = Float32Array.from(values);
    for (const parameters of [GREEDY, EVERYTHING, { ...EVERYTHING, topK: 1 }]) {
      expect(sample(fullRow(bad), parameters, 0.5)).toEqual({ kind: "overflow" });
      expect(sample(topRow(bad, 2, 1), parameters, 0.5)).toEqual({ kind: "overflow" });
    }
  });

  it("says overflow when the tail behind good candidates is not finite", () => {
    const row = topRow(logits, 3, 1);
    for (const logSumExp of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(sample({ ...row, logSumExp }, GREEDY, 0)).toEqual({ kind: "overflow" });
    }
    for (const bad of [
      [2, Number.NaN, 1],
      [Number.POSITIVE_INFINITY, 2, 1],
    ]) {
      expect(sample({ ...row, logits: Float32Array.from(bad) }, GREEDY, 0)).toEqual({ kind: "overflow" });
    }
  });

  it("sees a NaN of either sign in a full row", () => {
    const bits = new Uint32Array([0x7fc00000, 0xffc00000]);
    for (const nan of new Float32Array(bits.buffer)) {
      const bad = Float32Array.of(3, 0, 1);
      bad[1] = nan;
      expect(sample(fullRow(bad), GREEDY, 0)).toEqual({ kind: "overflow" });
    }
  });

  it("takes −0 and 0 for equal", () => {
    expect(sample(fullRow(Float32Array.of(-1, -0, 0)), GREEDY, 0)).toMatchObject({ id: 1 });
    expect(sample(fullRow(Float32Array.of(-1, 0, -0)), GREEDY, 0)).toMatchObject({ id: 1 });
  });

  it("decides from the candidates when the tail of a sharp distribution cannot matter, even without its sum", () => {
    const sharp = Float32Array.from({ length: 1000 }, (_, id) => -id);
    const row: TopRow = { ...topRow(sharp, 64, 0.05), temperedLogSumExp: Number.NaN };
    expect(sample(row, { ...EVERYTHING, temperature: 0.05 }, 0.5)).toMatchObject({ kind: "token", id: 0 });
  });

  it("trusts the candidates over a sum that contradicts them", () => {
    const sharp = Float32Array.from({ length: 1000 }, (_, id) => -id);
    for (const error of [-1, 1]) {
      for (const random of [0.1, 0.7, 0.9, 0.99]) {
        const id = sampleByDefinition(sharp, EVERYTHING, random);
        expect(sample(topRow(sharp, 64, 1, error), EVERYTHING, random)).toMatchObject({ kind: "token", id });
      }
    }
  });

  it("decides a draw inside a nucleus that ends behind the candidates", () => {
    const row = topRow(new Float32Array(100), 90, 1);
    const parameters = { ...EVERYTHING, topP: 0.951 };
    // 96 of the 100 stay; known is that it is 95.1 to 96.1.
    expect(sample(row, parameters, 0.505)).toMatchObject({ kind: "token", id: 48 });
    expect(sample(row, parameters, 0.5235)).toEqual({ kind: "needFullLogits" });
  });

  it("asks for every logit where the draw falls behind the candidates or too close to a border to trust the sum", () => {
    const flat = new Float32Array(100);
    const row = topRow(flat, 10, 1);
    expect(sample(row, EVERYTHING, 0.05)).toEqual({ kind: "needFullLogits" });
    expect(sample(row, EVERYTHING, 0.0555)).toMatchObject({ id: 5 });
    expect(sample(row, EVERYTHING, 0.06)).toEqual({ kind: "needFullLogits" });
    expect(sample(row, EVERYTHING, 0.1001)).toEqual({ kind: "needFullLogits" });
    expect(sample(row, { ...EVERYTHING, topP: 0.5 }, 0.5)).toEqual({ kind: "needFullLogits" });
    expect(sample(row, { ...EVERYTHING, topK: 50 }, 0.5)).toEqual({ kind: "needFullLogits" });
    expect(sample(row, { ...EVERYTHING, minP: 0.5 }, 0.5)).toEqual({ kind: "needFullLogits" });
    expect(sample(row, { ...EVERYTHING, topK: 10 }, 0.99)).toMatchObject({ id: 9 });
  });

  it("refuses parameters out of range and rows whose parts do not fit", () => {
    const row = fullRow(logits);
    for (const [wrong, message] of [
      [{ temperature: -1 }, /temperature -1/],
      [{ temperature: Number.NaN }, /temperature NaN/],
      [{ temperature: 11 }, /temperature 11/],
      [{ topK: -1 }, /topK/],
      [{ topK: 1.5 }, /topK/],
      [{ topP: 0 }, /topP/],
      [{ topP: 1.1 }, /topP/],
      [{ minP: -0.1 }, /minP/],
      [{ minP: 2 }, /minP/],
    ] as const) {
      expect(() => sample(row, { ...EVERYTHING, ...wrong }, 0.5)).toThrow(message);
    }
    expect(() => sample(row, EVERYTHING, 1)).toThrow(/random number 1/);
    expect(() => sample(fullRow(new Float32Array(0)), EVERYTHING, 0)).toThrow(/without logits/);
    const top = topRow(logits, 3, 1);
    expect(() => sample({ ...top, logits: top.logits.slice(1) }, EVERYTHING, 0)).toThrow(/3 ids and 2 logits/);
    expect(() => sample({ ...top, logits: top.logits.toReversed() }, EVERYTHING, 0)).toThrow(/out of order/);
  });
});

describe("sample against its definition", () => {
  /** Ties, masks, flat and razor-sharp rows. */
  const rows = fc
    .array(
      fc.oneof(
        { weight: 4, arbitrary: fc.float({ min: -30, max: 30, noNaN: true }) },
        { weight: 2, arbitrary: fc.constantFrom(0, 1, -1, 5) },
        { weight: 1, arbitrary: fc.constant(Number.NEGATIVE_INFINITY) },
        { weight: 1, arbitrary: fc.constantFrom(-1e38, 1e30, Math.fround(3e-45)) },
      ),
      { minLength: 1, maxLength: 60 },
    )
    .filter((values) => values.some(Number.isFinite))
    .map((values) => Float32Array.from(values));

  const settings: fc.Arbitrary<SamplingParameters> = fc.record({
    temperature: fc.oneof(
      { weight: 6, arbitrary: fc.double({ min: 0.05, max: 10, noNaN: true }) },
      { weight: 1, arbitrary: fc.constantFrom(0, 1, 1e-6, 1e-40, 5e-324, 10) },
    ),
    topK: fc.oneof(fc.constant(0), fc.nat(70)),
    topP: fc.oneof(fc.constant(1), fc.double({ min: 0.01, max: 1, noNaN: true })),
    minP: fc.oneof(fc.constant(0), fc.double({ min: 0, max: 1, noNaN: true })),
  });

  const random = fc.oneof(
    { weight: 8, arbitrary: fc.maxSafeNat().map((n) => n * 2 ** -53) },
    { weight: 1, arbitrary: fc.constantFrom(0, 0.5, 1 - 2 ** -53) },
  );

  it("draws from every logit what the definition draws", () => {
    fc.assert(
      fc.property(rows, settings, random, (logits, parameters, u) => {
        const result = sample(fullRow(logits), parameters, u);
        expect(result).toMatchObject({ kind: "token", id: sampleByDefinition(logits, parameters, u) });
      }),
      { numRuns: 2000 },
    );
  });

  it("draws from a large vocabulary what the definition draws, however far down the token is", () => {
    const masked = (keep: number) => (_: unknown, id: number) => (id % 7 < keep ? 1 : Number.NEGATIVE_INFINITY);
    const vocabulary = 10_000;
    const large = [
      new Float32Array(vocabulary),
      peaked(vocabulary, 3n),
      Float32Array.from({ length: vocabulary }, (_, id) => 8 * uniform(9n, 0, id) - 4),
      Float32Array.from({ length: vocabulary }, masked(1)),
      Float32Array.from({ length: vocabulary }, (_, id) => (id % 2 === 0 ? -1 : 1) * (id / 1000)),
    ];
    const cuts = [
      EVERYTHING,
      { ...EVERYTHING, temperature: 4 },
      { ...EVERYTHING, topK: 9000 },
      { ...EVERYTHING, topP: 0.97 },
      { temperature: 2, topK: 9500, topP: 0.95, minP: 0.01 },
    ];
    for (const logits of large) {
      const row = fullRow(logits);
      for (const parameters of cuts) {
        const byDefinition = samplerByDefinition(logits, parameters);
        for (const u of [0, 0.003, 0.05, 0.3, 0.51, 0.77, 0.93, 0.999, 1 - 2 ** -53]) {
          expect(sample(row, parameters, u)).toMatchObject({ kind: "token", id: byDefinition(u) });
        }
      }
    }
    expect(sample(fullRow(peaked(vocabulary, 3n)), EVERYTHING, 0, 5000)).toMatchObject({
      alternatives: { length: 5000 },
    });
  });

  it("draws from the candidates what every logit gives, or says that it cannot", () => {
    const sumError = fc.double({ min: -1e-5, max: 1e-5, noNaN: true });
    fc.assert(
      fc.property(rows, settings, random, fc.integer({ min: 1, max: 64 }), sumError, (logits, parameters, u, k, e) => {
        const top = sample(topRow(logits, k, parameters.temperature, e), parameters, u);
        if (top.kind === "needFullLogits") {
          // Never without need: all candidates there are, or a cut inside them, decide every draw.
          expect(k).toBeLessThan(logits.length);
          expect(parameters.temperature).toBeGreaterThan(0);
          if (parameters.topK > 0) expect(parameters.topK).toBeGreaterThan(k);
          return;
        }
        const full = sample(fullRow(logits), parameters, u);
        expect(top.kind === "token" && full.kind === "token" && top.id).toBe(full.kind === "token" && full.id);
      }),
      { numRuns: 3000 },
    );
  });

  it("agrees on flat and sloping rows for every place a cut can fall", () => {
    const vocabulary = 40;
    for (const slope of [0, 0.01]) {
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => -slope * id);
      for (const topK of [0, 10, 25, 38]) {
        for (const topP of [0.25, 0.5, 0.9, 0.951, 1]) {
          for (const minP of [0, 0.8, 1]) {
            const parameters = { temperature: 1, topK, topP, minP };
            const byDefinition = samplerByDefinition(logits, parameters);
            const full = Array.from({ length: 40 }, (_, i) => sample(fullRow(logits), parameters, (i + 0.37) / 40));
            full.forEach((result, i) => {
              expect(result).toMatchObject({ id: byDefinition((i + 0.37) / 40) });
            });
            for (const k of [1, 5, 20, 30, 36, 39]) {
              const row = topRow(logits, k, 1);
              full.forEach((result, i) => {
                const top = sample(row, parameters, (i + 0.37) / 40);
                if (top.kind === "token" && result.kind === "token") expect(top.id).toBe(result.id);
              });
            }
          }
        }
      }
    }
  });

  it("agrees at the very borders between tokens, where a sum that is slightly off would flip the draw", () => {
    const seeds = fc.bigInt({ min: 0n, max: 1000n });
    const beside = fc.integer({ min: -300, max: 300 });
    // Far from 0 a float32 sum has few bits left for what is behind the point.
    const offsets = fc.constantFrom(0, 300, -8000);
    fc.assert(
      fc.property(seeds, offsets, fc.nat(15), beside, (seed, offset, rank, millionths) => {
        const logits = peaked(200, seed).map((logit) => logit + offset);
        const whole = keptTokens(logits, EVERYTHING);
        const mass = (count: number) => whole.slice(0, count).reduce((sum, { weight }) => sum + weight, 0);
        const u = Math.min(1 - 2 ** -53, (mass(rank + 1) / mass(whole.length)) * (1 + millionths * 1e-6));
        for (const error of [-1e-5, 0, 1e-5]) {
          const top = sample(topRow(logits, 16, 1, error), EVERYTHING, u);
          if (top.kind === "token") expect(top.id).toBe(sampleByDefinition(logits, EVERYTHING, u));
        }
      }),
      { numRuns: 500 },
    );
  });

  it("rarely needs every logit for a distribution of a language model's shape", () => {
    const logits = peaked(2000, 5n);
    const parameters = { temperature: 0.8, topK: 0, topP: 0.9, minP: 0 };
    const row = topRow(
      logits.map((x) => 3 * x),
      64,
      0.8,
    );
    const draws = 2000;
    let undecided = 0;
    for (let i = 0; i < draws; i++) {
      if (sample(row, parameters, uniform(1n, 0, i)).kind === "needFullLogits") undecided++;
    }
    expect(undecided / draws).toBeLessThan(0.01);
  });
});

describe("sampled frequencies", () => {
  const VOCABULARY = 60;
  const CANDIDATES = 16;
  const DRAWS = 20_000;
  const logits = Float32Array.from({ length: VOCABULARY }, (_, id) => 4 * uniform(11n, 0, id));

  function counts(parameters: SamplingParameters, seed: bigint): Float64Array {
    const result = new Float64Array(VOCABULARY);
    const top = topRow(logits, CANDIDATES, parameters.temperature);
    const full = fullRow(logits);
    for (let position = 0; position < DRAWS; position++) {
      const u = uniform(seed, 0, position);
      const first = sample(top, parameters, u);
      const drawn = first.kind === "needFullLogits" ? sample(full, parameters, u) : first;
      if (drawn.kind !== "token") throw new Error(drawn.kind);
      result[drawn.id] = (result[drawn.id] as number) + 1;
    }
    return result;
  }

  /** χ² over its 0.999 quantile (Wilson and Hilferty): above 1 the frequencies are not those of the distribution. */
  function misfit(observed: Float64Array, expected: Float64Array): number {
    const bins: { observed: number; expected: number }[] = [];
    let pooled = { observed: 0, expected: 0 };
    for (const [id, probability] of expected.entries()) {
      const bin = { observed: observed[id] as number, expected: probability * DRAWS };
      if (probability === 0 && bin.observed > 0) return Number.POSITIVE_INFINITY;
      if (bin.expected >= 5) bins.push(bin);
      else pooled = { observed: pooled.observed + bin.observed, expected: pooled.expected + bin.expected };
    }
    if (pooled.expected > 0) bins.push(pooled);
    const statistic = bins.reduce((sum, bin) => sum + (bin.observed - bin.expected) ** 2 / bin.expected, 0);
    const freedom = bins.length - 1;
    return statistic / (freedom * (1 - 2 / (9 * freedom) + 3.0902 * Math.sqrt(2 / (9 * freedom))) ** 3);
  }

  it.each<[string, SamplingParameters]>([
    ["everything at temperature 1", EVERYTHING],
    ["a low temperature", { ...EVERYTHING, temperature: 0.6 }],
    ["a high temperature", { ...EVERYTHING, temperature: 3 }],
    ["top-k inside the candidates", { ...EVERYTHING, topK: 7 }],
    ["top-k beyond the candidates", { ...EVERYTHING, topK: 30 }],
    ["top-p inside the candidates", { ...EVERYTHING, topP: 0.4 }],
    ["top-p beyond the candidates", { ...EVERYTHING, topP: 0.97 }],
    ["min-p inside the candidates", { ...EVERYTHING, minP: 0.5 }],
    ["min-p beyond the candidates", { ...EVERYTHING, minP: 0.05 }],
    ["all of them together", { temperature: 1.4, topK: 40, topP: 0.9, minP: 0.15 }],
  ])("are the exact distribution's with %s", (_, parameters) => {
    const observed = counts(parameters, 20_26n);
    expect(misfit(observed, probabilities(logits, parameters))).toBeLessThan(1);
    // The test has the power to tell: without the feature it is a different distribution.
    if (parameters !== EVERYTHING) expect(misfit(observed, probabilities(logits, EVERYTHING))).toBeGreaterThan(1.5);
  });
});
