import { ServiceError } from "@persona-mesh/service";
import { expect, test } from "vitest";
import type { Chunk } from "../engine/engine-job.ts";
import type { Heads } from "../engine/heads.ts";
import { WornPersona } from "../engine/worn-persona.ts";
import type { Standing } from "../personas/persona-catalog.ts";
import { SteeringTable } from "../table/index.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import { PromptLogProbsJob, type PromptToken } from "./prompt-log-probs-job.ts";

const HIDDEN = 2;

/** Heads of which every answer says what was asked: the position is the first value of the hidden state. */
const HEADS = {
  score: async (hidden: Float32Array, ids: readonly number[]) => ({
    logProbs: Float32Array.from(ids, (id, at) => -(100 * (hidden[at * HIDDEN] as number) + id)),
  }),
  likeliest: async (hidden: Float32Array, count: number) =>
    Array.from({ length: hidden.length / HIDDEN }, (_, at) =>
      Array.from({ length: count }, (_, rank) => ({ id: hidden[at * HIDDEN] as number, logProb: -rank })),
    ),
} as unknown as Heads;

function jobOf(prompt: readonly number[], topLogProbs = 0, standing?: () => Standing) {
  const table = new SteeringTable({ rows: 2, hidden: HIDDEN, layers: 1 });
  const persona = standing === undefined ? undefined : personaOf("glad", new Map([[0, rowAlong(HIDDEN, 1)]]));
  const source = { current: () => persona, follow: false, gain: 1, ...(standing === undefined ? {} : { standing }) };
  const worn = new WornPersona(table, source);
  worn.admit();
  return new PromptLogProbsJob({ id: "read", tenant: "acme", prompt, worn, topLogProbs });
}

async function readIn(job: PromptLogProbsJob, ends: readonly number[]): Promise<readonly PromptToken[]> {
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

test("every token but the first is scored at the position before it, however the prompt is cut", async () => {
  const prompt = [7, 8, 9, 10, 11];
  const expected = [
    { id: 8, logProb: -8, alternatives: [] },
    { id: 9, logProb: -109, alternatives: [] },
    { id: 10, logProb: -210, alternatives: [] },
    { id: 11, logProb: -311, alternatives: [] },
  ];
  for (const ends of [[5], [4, 5], [1, 2, 3, 4, 5], [2, 5]]) {
    expect(await readIn(jobOf(prompt), ends)).toEqual(expected);
  }
});

test("alternatives are those of the same position", async () => {
  const tokens = await readIn(jobOf([7, 8, 9], 2), [2, 3]);
  expect(tokens.map(({ alternatives }) => alternatives)).toEqual([
    [
      { id: 0, logProb: -0 },
      { id: 0, logProb: -1 },
    ],
    [
      { id: 1, logProb: -0 },
      { id: 1, logProb: -1 },
    ],
  ]);
});

test("a prompt of one token has none that follows", async () => {
  expect(await readIn(jobOf([7], 3), [1])).toEqual([]);
});

test("positions that are reused have no log-probabilities: every one is computed", () => {
  expect(jobOf([7, 8]).reusePrefix).toBe(false);
});

test("a persona that is withdrawn meanwhile ends the reading", async () => {
  const error = new ServiceError("VERSION_REVOKED", "revoked");
  let standing: Standing = { kind: "served", capHundredths: 80 };
  const job = jobOf([7, 8], 0, () => standing);
  standing = { kind: "withdrawn", policy: "REMOVE", error };
  const step = { start: 0, end: 2, isLast: true };
  const batch = { hidden: new Float32Array(HIDDEN) };
  expect(await job.read({ step, batch } as unknown as Chunk, HEADS)).toEqual({ kind: "fail", error });
});
