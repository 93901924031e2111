import { expect, test } from "vitest";
import type { Chunk } from "../engine/engine-job.ts";
import type { Heads } from "../engine/heads.ts";
import { WornPersona } from "../engine/worn-persona.ts";
import { SteeringTable } from "../table/index.ts";
import { type Score, ScoreJob } from "./score-job.ts";

const HIDDEN = 2;

function jobOf(
  prompt: readonly number[],
  continuation: readonly number[],
  tokenSets: readonly number[][] = [],
): ScoreJob {
  const table = new SteeringTable({ rows: 2, hidden: HIDDEN, layers: 1 });
  const worn = new WornPersona(table, { current: () => undefined, follow: false, gain: 1 });
  return new ScoreJob({ id: "score", tenant: "acme", prompt, continuation, tokenSets, worn });
}

/** A head of which every answer says what was asked: the position is the first value of the hidden state. */
const LOGITS = Float32Array.of(0, 1, 2, 3);
const HEADS = {
  score: async (hidden: Float32Array, ids: readonly number[]) => ({
    logProbs: Float32Array.from(ids, (id, index) => -(100 * (hidden[index * HIDDEN] as number) + id)),
    entropies: Float32Array.from(ids, (_, index) => hidden[index * HIDDEN] as number),
  }),
  logits: async (hidden: Float32Array) => LOGITS.map((logit) => logit * (hidden[0] as number)),
} as unknown as Heads;

/** Read all positions in pieces that end where it is said; the hidden states are those that the job asked for. */
async function scored(job: ScoreJob, ends: readonly number[]): Promise<Score> {
  let start = 0;
  for (const end of ends) {
    const step = { start, end, isLast: end === job.tokens };
    const wanted = job.select(step);
    // The engine selects one position where the job wants none.
    const positions = (wanted.length === 0 ? [end - start - 1] : wanted).map((at) => start + at);
    const hidden = Float32Array.from(positions.flatMap((position) => [position, 0]));
    expect(await job.read({ step, batch: { hidden } } as unknown as Chunk, HEADS)).toEqual({ kind: "continue" });
    start = end;
  }
  job.ended({ kind: "finished", reason: "prefilled" });
  return job.outcome.promise;
}

test("each token is scored at the position before it; the last one is not read", async () => {
  const job = jobOf([1, 2, 3], [7, 8, 9]);
  expect([...job.prompt]).toEqual([1, 2, 3, 7, 8]);
  expect([job.tokens, job.promptTokens]).toEqual([5, 3]);
  const { logProbs, entropies, masses } = await scored(job, [3, 5]);
  expect([...logProbs]).toEqual([-207, -308, -409]);
  expect([...entropies]).toEqual([2, 3, 4]);
  expect(masses).toEqual([]);
});

test("the cut into chunks makes no difference", async () => {
  const sets = [[1], [0, 2]];
  const whole = await scored(jobOf([1, 2, 3], [7, 8, 9, 10], sets), [3, 6]);
  for (const ends of [
    [1, 2, 3, 4, 5, 6],
    [2, 3, 5, 6],
    [3, 4, 6],
  ]) {
    expect(await scored(jobOf([1, 2, 3], [7, 8, 9, 10], sets), ends)).toEqual(whole);
  }
});

test("masses are of the distribution after the prompt, a token named twice counting once", async () => {
  const { masses, logProbs } = await scored(jobOf([1, 2], [], [[0, 1, 2, 3], [3], [3, 3], []]), [2]);
  expect([...logProbs]).toEqual([]);
  // Position 1: the logits as they are.
  const total = LOGITS.reduce((sum, logit) => sum + Math.exp(logit), 0);
  expect(masses[0]).toBeCloseTo(1, 12);
  expect(masses[1]).toBeCloseTo(Math.exp(3) / total, 6);
  expect(masses[2]).toBe(masses[1]);
  expect(masses[3]).toBe(0);
});

test("masses of logits of any size are numbers", async () => {
  const huge = { ...HEADS, logits: async () => Float32Array.of(1e30, 1e30, -1e30, 0) } as unknown as Heads;
  const job = jobOf([1], [], [[0], [2]]);
  await job.read(
    { step: { start: 0, end: 1, isLast: true }, batch: { hidden: new Float32Array(HIDDEN) } } as unknown as Chunk,
    huge,
  );
  job.ended({ kind: "finished", reason: "prefilled" });
  expect((await job.outcome.promise).masses).toEqual([0.5, 0]);
});
