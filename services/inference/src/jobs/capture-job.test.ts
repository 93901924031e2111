import { expect, test } from "vitest";
import type { Chunk } from "../engine/engine-job.ts";
import { WornPersona } from "../engine/worn-persona.ts";
import { SteeringTable } from "../table/index.ts";
import { type Capture, CaptureJob } from "./capture-job.ts";

const LAYERS = 2;
const HIDDEN = 2;

/** Residual of a position: told apart in every number. */
const residual = (position: number) => [position, 10 + position, 3 * position, 4 * position];

function jobOf(pooling: "LAST_PROMPT_TOKEN" | "RESPONSE_MEAN", prompt: number, response: number): CaptureJob {
  const table = new SteeringTable({ rows: 2, hidden: HIDDEN, layers: LAYERS });
  const tokens = (count: number) => Array.from({ length: count }, (_, index) => index + 1);
  return new CaptureJob({
    tenant: "acme",
    id: "capture",
    prompt: tokens(prompt),
    response: tokens(response),
    pooling,
    layers: LAYERS,
    hidden: HIDDEN,
    worn: new WornPersona(table, { current: () => undefined, follow: false, gain: 1 }),
  });
}

/** Read all positions in pieces that end where it is said. */
async function captured(job: CaptureJob, ends: readonly number[]): Promise<Capture> {
  let start = 0;
  for (const end of ends) {
    const residuals = Float32Array.from(
      Array.from({ length: end - start }, (_, index) => residual(start + index)).flat(),
    );
    const step = { start, end, isLast: end === job.tokens };
    expect(await job.read({ step, batch: { residuals } } as unknown as Chunk)).toEqual({ kind: "continue" });
    start = end;
  }
  job.ended({ kind: "finished", reason: "prefilled" });
  return job.outcome.promise;
}

test("sums and norms leave the first position out; pooled is the residual of the last prompt token", async () => {
  const job = jobOf("LAST_PROMPT_TOKEN", 3, 2);
  const { pooled, norms, sum } = await captured(job, [5]);
  expect([...pooled]).toEqual(residual(2));
  // Positions 1 to 4.
  expect([...sum]).toEqual([10, 50, 30, 40]);
  expect([...norms]).toEqual([1, 2, 3, 4].flatMap((p) => [Math.fround(Math.hypot(p, 10 + p)), 5 * p]));
});

test("the mean over the response is over its positions alone", async () => {
  const { pooled, sum } = await captured(jobOf("RESPONSE_MEAN", 3, 2), [5]);
  expect([...pooled]).toEqual([3.5, 13.5, 10.5, 14]);
  expect([...sum]).toEqual([10, 50, 30, 40]);
});

test("the cut into chunks makes no difference", async () => {
  for (const pooling of ["LAST_PROMPT_TOKEN", "RESPONSE_MEAN"] as const) {
    const whole = await captured(jobOf(pooling, 3, 4), [7]);
    for (const ends of [
      [1, 7],
      [2, 4, 6, 7],
      [1, 2, 3, 4, 5, 6, 7],
    ]) {
      expect(await captured(jobOf(pooling, 3, 4), ends)).toEqual(whole);
    }
  }
});

test("of a prompt of one token, whose only position is left out, there is a pooled residual and nothing else", async () => {
  const { pooled, norms, sum } = await captured(jobOf("LAST_PROMPT_TOKEN", 1, 0), [1]);
  expect([...pooled]).toEqual(residual(0));
  expect([...norms]).toEqual([]);
  expect([...sum]).toEqual([0, 0, 0, 0]);
});
