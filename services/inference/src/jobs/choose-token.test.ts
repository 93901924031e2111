import { describe, expect, it } from "vitest";
import type { TokenState } from "../engine/engine-job.ts";
import type { Heads, TopState } from "../engine/heads.ts";
import { type LogitEditParameters, LogitEdits, NO_EDITS, type SamplingParameters, uniform } from "../sampling/index.ts";
import { EVERYTHING, topRow } from "../sampling/sampler-fixtures.ts";
import { chooseToken } from "./choose-token.ts";

const VOCABULARY = 40;
const DRAWS = 4000;

/** A few likely tokens and a tail, none with the sign of its neighbours. */
const LOGITS = Float32Array.from({ length: VOCABULARY }, (_, id) => 3 * Math.cos(id) - id / 20);

const PROMPT = [0, 1, 6];
const REPLY = [6, 12, 12, 7];

const HEADS = { logits: async () => LOGITS } as unknown as Heads;

/**
 * The distribution by its definition, on plain numbers: no line of it is shared with what is tested.
 *
 * @returns probability by token
 */
function expectedOf(edits: LogitEditParameters, { temperature, topK, topP, minP }: SamplingParameters): number[] {
  const scores = Array.from(LOGITS, (logit, id) => {
    let score = logit + (edits.bias.get(id) ?? 0);
    if (REPLY.includes(id) || PROMPT.includes(id)) {
      score = score < 0 ? score * edits.repetitionPenalty : score / edits.repetitionPenalty;
    }
    for (const other of REPLY) if (other === id) score -= edits.frequencyPenalty;
    if (REPLY.includes(id)) score -= edits.presencePenalty;
    return edits.endTokens.has(id) && REPLY.length < edits.minTokens ? -1e30 : score;
  });
  const weights = scores.map((score) => Math.exp(score / temperature));
  const normal = (values: number[]) => {
    const total = values.reduce((a, b) => a + b, 0);
    return values.map((value) => value / total);
  };
  const ranked = (values: number[]) => [...values.keys()].sort((a, b) => (values[b] as number) - (values[a] as number));
  let shares = normal(weights);
  if (topK > 0) {
    const kept = new Set(ranked(shares).slice(0, topK));
    shares = normal(shares.map((share, id) => (kept.has(id) ? share : 0)));
  }
  if (topP < 1) {
    const kept = new Set<number>();
    let mass = 0;
    for (const id of ranked(shares)) {
      if (mass >= topP) break;
      mass += shares[id] as number;
      kept.add(id);
    }
    shares = normal(shares.map((share, id) => (kept.has(id) ? share : 0)));
  }
  const most = Math.max(...shares);
  return normal(shares.map((share) => (share >= minP * most ? share : 0)));
}

async function drawn(edits: LogitEditParameters, parameters: SamplingParameters, seed: bigint): Promise<number[]> {
  const counts = new Array<number>(VOCABULARY).fill(0);
  const state: TokenState = { hidden: new Float32Array(1), projections: new Float32Array(1) };
  const top: TopState = { row: topRow(LOGITS, 16, parameters.temperature), entropy: 1 };
  const history = new LogitEdits(edits, PROMPT);
  for (const id of REPLY) history.take(id);
  for (let position = 0; position < DRAWS; position++) {
    const random = uniform(seed, 0, position);
    const { id } = await chooseToken(state, top, HEADS, { parameters, edits: history, random, alternatives: 0 });
    counts[id] = (counts[id] as number) + 1;
  }
  return counts;
}

/** Pearson's statistic over tokens that are expected at least five times, the others together; and its degrees of freedom. */
function chiSquare(counts: readonly number[], expected: readonly number[]) {
  let [statistic, cells] = [0, 0];
  let [rareCount, rareExpected] = [0, 0];
  expected.forEach((share, id) => {
    const count = counts[id] as number;
    if (share === 0) expect(count).toBe(0);
    else if (share * DRAWS < 5) [rareCount, rareExpected] = [rareCount + count, rareExpected + share * DRAWS];
    else [statistic, cells] = [statistic + (count - share * DRAWS) ** 2 / (share * DRAWS), cells + 1];
  });
  if (rareExpected > 1) [statistic, cells] = [statistic + (rareCount - rareExpected) ** 2 / rareExpected, cells + 1];
  return { statistic, freedom: cells - 1 };
}

/** What a right sampler exceeds once in some 30,000 runs: the mean and four standard deviations. The seeds are fixed. */
function limit(freedom: number): number {
  return freedom + 4 * Math.sqrt(2 * freedom);
}

const FEATURES: [string, Partial<LogitEditParameters>, Partial<SamplingParameters>][] = [
  ["temperature 1", {}, {}],
  ["a low temperature", {}, { temperature: 0.6 }],
  ["a high temperature", {}, { temperature: 2.5 }],
  ["top-k", {}, { topK: 5 }],
  ["top-p", {}, { topP: 0.8 }],
  ["min-p", {}, { minP: 0.2 }],
  ["all cuts together", {}, { temperature: 1.4, topK: 20, topP: 0.95, minP: 0.02 }],
  ["a repetition penalty", { repetitionPenalty: 1.5 }, {}],
  ["a repetition reward", { repetitionPenalty: 0.5 }, {}],
  ["a presence penalty", { presencePenalty: 1.5 }, {}],
  ["a frequency penalty", { frequencyPenalty: 0.8 }, {}],
  [
    "biases",
    {
      bias: new Map([
        [6, -3],
        [20, 4],
        [39, 2],
      ]),
    },
    {},
  ],
  ["a least length", { endTokens: new Set([0, 6, 7]), minTokens: 5 }, {}],
  [
    "all of it",
    { repetitionPenalty: 1.2, presencePenalty: 0.3, frequencyPenalty: 0.2, bias: new Map([[3, 3]]) },
    { temperature: 0.9, topK: 25, topP: 0.97, minP: 0.01 },
  ],
];

describe("chooseToken draws each token as often as the definition says", () => {
  it.each(FEATURES)("with %s", async (_, edits, cuts) => {
    const parameters = { ...EVERYTHING, ...cuts };
    const expected = expectedOf({ ...NO_EDITS, ...edits }, parameters);
    const counts = await drawn({ ...NO_EDITS, ...edits }, parameters, 11n);
    const { statistic, freedom } = chiSquare(counts, expected);
    expect(freedom).toBeGreaterThan(2);
    expect(statistic).toBeLessThan(limit(freedom));
  });

  it("and the test sees a penalty that is left out", async () => {
    const expected = expectedOf({ ...NO_EDITS, presencePenalty: 0.3 }, EVERYTHING);
    const { statistic, freedom } = chiSquare(await drawn(NO_EDITS, EVERYTHING, 11n), expected);
    expect(statistic).toBeGreaterThan(limit(freedom));
  });
});

it("log-probabilities are the model's own, whatever was edited", async () => {
  const state: TokenState = { hidden: new Float32Array(1), projections: new Float32Array(1) };
  const top: TopState = { row: topRow(LOGITS, 16, 1), entropy: 1 };
  const edits = new LogitEdits({ ...NO_EDITS, bias: new Map([[30, 100]]) }, PROMPT);
  const chosen = await chooseToken(state, top, HEADS, { parameters: EVERYTHING, edits, random: 0.5, alternatives: 2 });
  const total = Math.log(LOGITS.reduce((sum, logit) => sum + Math.exp(logit), 0));
  expect(chosen.id).toBe(30);
  expect(chosen.logProb).toBeCloseTo((LOGITS[30] as number) - total, 5);
  expect(chosen.alternatives.map(({ id }) => id)).toEqual([0, 6]);
});

it("rows whose logits were read with others' are not read again", async () => {
  const state: TokenState = { hidden: new Float32Array(1), projections: new Float32Array(1), logits: LOGITS };
  const top: TopState = { row: topRow(LOGITS, 16, 1), entropy: 1 };
  const edits = new LogitEdits({ ...NO_EDITS, bias: new Map([[3, 1]]) }, PROMPT);
  const heads = {} as Heads;
  await expect(
    chooseToken(state, top, heads, { parameters: EVERYTHING, edits, random: 0.1, alternatives: 0 }),
  ).resolves.toMatchObject({ id: 0 });
});
