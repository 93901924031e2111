import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { auc } from "./auc.ts";
import { type CoherencePart, coherence } from "./coherence.ts";
import { type CoherenceBaseline, coherenceBaseline } from "./coherence-baseline.ts";
import type { Reply } from "./reply.ts";
import { NgramModel } from "./testing/ngram-model.ts";
import { reasonOf, shuffled, uniform } from "./testing/support.ts";

const TEXTS = readFileSync(new URL("./fixtures/replies.txt", import.meta.url), "utf8")
  .trim()
  .split("\n");

interface Planted {
  /** A bad reply made of a good one, as the model would read it. */
  degrade(ids: readonly number[], model: NgramModel, next: () => number): Reply;
  /** The part that puts it out of bounds by itself. */
  caughtBy?: CoherencePart;
}

const PLANTED: Record<string, Planted> = {
  "a loop of one token": { degrade: (ids, model) => model.read(looped(ids, 1)) },
  "a loop of five tokens": { degrade: (ids, model) => model.read(looped(ids, 5)), caughtBy: "repetition" },
  "a loop of fifteen tokens": { degrade: (ids, model) => model.read(looped(ids, 15)), caughtBy: "repetition" },
  "a loop that the model is certain of": { degrade: (ids, model) => certain(model.read(looped(ids, 8))) },
  "text that the model is certain of, without a loop": {
    degrade: (ids, model) => certain(model.read(ids)),
    caughtBy: "entropy",
  },
  "its tokens shuffled": { degrade: (ids, model, next) => model.read(shuffled(ids, next)), caughtBy: "surprise" },
  "random tokens": {
    degrade: (ids, model, next) => model.read(ids.map(() => Math.floor(next() * model.vocabulary.length))),
    caughtBy: "surprise",
  },
};

/** The first third, then its last tokens over and over. */
function looped(ids: readonly number[], period: number): number[] {
  const start = Math.max(period, Math.floor(ids.length / 3));
  return ids.map((id, i) => (i < start ? id : (ids[start - period + ((i - start) % period)] as number)));
}

/** As a transformer reads its own loop: certain of every token, and right. */
function certain({ tokenIds }: Reply): Reply {
  const few = Array.from(tokenIds, () => 0.02);
  return { tokenIds, entropies: few, logProbs: few.map((x) => -x) };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Replies of two kinds, each read by a model that could have served them. */
const SETTINGS = {
  "sampled from the model": () => {
    const model = new NgramModel(
      3,
      TEXTS.map((text) => text.split(" ")),
    );
    const next = uniform(1);
    const sample = () => model.sample(40 + Math.floor(next() * 60), next);
    const calm = Array.from({ length: 60 }, sample);
    return { model, calm, good: Array.from({ length: 80 }, sample) };
  },
  // Letters, because a few thousand words teach little about words but much about spelling.
  "that people wrote and the model never saw": () => {
    const letters = TEXTS.map((text) => [...text]);
    const model = new NgramModel(5, letters.slice(0, 22), letters.flat());
    const [calm, good] = [letters.slice(22, 32), letters.slice(32)].map((texts) =>
      texts.map((text) => model.encode(text)),
    );
    return { model, calm: calm as number[][], good: good as number[][] };
  },
};

describe.each(Object.entries(SETTINGS))("of replies %s", (_, setting) => {
  const { model, calm, good } = setting();
  const baseline = coherenceBaseline(calm.map((ids) => model.read(ids)));
  const scores = good.map((ids) => coherence(model.read(ids), baseline).score);

  test("the score is high, and next to none is out of bounds", () => {
    expect(mean(scores)).toBeGreaterThan(0.8);
    expect(scores.filter((score) => score < 0.5).length).toBeLessThanOrEqual(1);
  });

  test.each(Object.entries(PLANTED))("the score separates %s", (__, { degrade, caughtBy }) => {
    const next = uniform(2);
    const bad = good.map((ids) => coherence(degrade(ids, model, next), baseline));
    const badScores = bad.map(({ score }) => score);
    expect(auc(scores, badScores)).toBeGreaterThanOrEqual(0.95);
    expect(mean(badScores)).toBeLessThan(0.4);
    if (caughtBy === undefined) return;
    const inBounds = bad.filter(({ parts }) => (parts[caughtBy] as number) >= 0.5);
    expect(inBounds.length / bad.length).toBeLessThan(0.1);
  });
});

describe("a part", () => {
  const baseline: CoherenceBaseline = {
    meanTokens: 40,
    meanEntropy: 2,
    entropyStd: 0.05,
    meanSurprisal: 2.1,
    surprisalStd: 0.1,
    meanGap: 0.1,
    gapStd: 0.05,
    meanRepetition: 0.1,
    repetitionStd: 0.05,
  };
  const FLOOR = 0.01;

  /** A reply without repetition, of a constant entropy and surprisal. */
  function flat(options: { entropy?: number; gap?: number; tokens?: number; kl?: number; copies?: number }): Reply {
    const { entropy = 2, gap = 0.1, tokens = 40, kl, copies = 0 } = options;
    const fill = (value: number) => new Float64Array(tokens).fill(value);
    return {
      // The last `copies` tokens repeat those half a reply before.
      tokenIds: Array.from({ length: tokens }, (_, i) => (i >= tokens - copies ? i - tokens / 2 : i)),
      entropies: fill(entropy),
      logProbs: fill(-(entropy + gap)),
      ...(kl === undefined ? {} : { kls: fill(kl) }),
    };
  }
  const parts = (options: Parameters<typeof flat>[0], changed = {}) =>
    coherence(flat(options), { ...baseline, ...changed }).parts;

  test("is 1 at the baseline, and so is the score but for the prose that repeats itself a little", () => {
    const { parts: all, score } = coherence(flat({}), baseline);
    expect(all).toEqual({ entropy: 1, surprise: expect.closeTo(1, 9), repetition: 1 });
    expect(score).toBeCloseTo(1, 9);
  });

  test("of entropy is ½ at 15 % either way, and 1/16 at twice that", () => {
    const at = (ratio: number) => parts({ entropy: (2 + FLOOR) * ratio - FLOOR }).entropy;
    expect(at(1.15)).toBeCloseTo(0.5, 9);
    expect(at(1 / 1.15)).toBeCloseTo(0.5, 9);
    expect(at(1.15 ** 2)).toBeCloseTo(1 / 16, 9);
    expect(at(0.2)).toBeLessThan(1e-6);
  });

  test("of entropy widens to 3 σ where unsteered replies spread more", () => {
    expect(parts({ entropy: (2 + FLOOR) * 1.6 - FLOOR }, { entropyStd: 0.4 }).entropy).toBeCloseTo(0.5, 9);
  });

  test("of surprise is ½ at 15 % of the entropy over the baseline's gap, and never punishes too little", () => {
    expect(parts({ gap: 0.1 + 0.3 }).surprise).toBeCloseTo(0.5, 9);
    expect(parts({ gap: 0.1 + 0.9 }, { gapStd: 0.3 }).surprise).toBeCloseTo(0.5, 9);
    expect(parts({ gap: -1.5 }).surprise).toBe(1);
  });

  test("of repetition is ½ where half of the second half is copied", () => {
    expect(parts({ copies: 10 }).repetition).toBeCloseTo(0.5, 9);
    expect(parts({ copies: 20 }).repetition).toBeCloseTo(1 / 16, 9);
  });

  test("of repetition keeps a full loop out of bounds, however repetitive the baseline", () => {
    expect(parts({ copies: 20 }, { meanRepetition: 0.8, repetitionStd: 0.5 }).repetition).toBeLessThan(0.3);
  });

  test("of divergence is there only with a twin, and ½ at 1 nat", () => {
    expect("divergence" in parts({})).toBe(false);
    expect(parts({ kl: 0 }).divergence).toBe(1);
    expect(parts({ kl: 1 }).divergence).toBeCloseTo(0.5, 12);
    expect(parts({ kl: Number.POSITIVE_INFINITY }).divergence).toBe(0);
  });

  test("gives a shorter reply more room, a longer one no less than the baseline's", () => {
    const of = (tokens: number) => parts({ entropy: 2.5, tokens }, { entropyStd: 0.2 }).entropy as number;
    expect(of(10)).toBeGreaterThan(of(40));
    expect(of(80)).toBe(of(40));
  });

  test("that is the smallest is the score, and is named", () => {
    expect(coherence(flat({ copies: 20, kl: 1 }), baseline)).toMatchObject({ score: 1 / 16, weakest: "repetition" });
    expect(coherence(flat({ entropy: 0.1 }), baseline).weakest).toBe("entropy");
    expect(coherence(flat({ gap: 4 }), baseline).weakest).toBe("surprise");
    expect(coherence(flat({ kl: 3 }), baseline).weakest).toBe("divergence");
  });

  test("is 0 for a token that the model rules out", () => {
    const reply = flat({});
    const logProbs = Array.from(reply.logProbs, (x, i) => (i === 3 ? Number.NEGATIVE_INFINITY : x));
    expect(coherence({ ...reply, logProbs }, baseline)).toMatchObject({ score: 0, weakest: "surprise" });
  });

  test.each(Object.keys(baseline))("cannot be had from a baseline with %s NaN, missing or infinite", (field) => {
    for (const value of [Number.NaN, undefined, Number.POSITIVE_INFINITY]) {
      expect(reasonOf(() => parts({}, { [field]: value }))).toBe("BASELINE_INVALID");
    }
  });

  test("cannot be had from a baseline without entropy or with a negative spread", () => {
    expect(reasonOf(() => parts({}, { meanEntropy: 0 }))).toBe("BASELINE_INVALID");
    expect(reasonOf(() => parts({}, { gapStd: -0.1 }))).toBe("BASELINE_INVALID");
    expect(() => parts({}, { meanGap: -0.1 })).not.toThrow();
  });
});
