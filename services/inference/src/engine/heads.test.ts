import { ModelRuntime } from "@persona-mesh/model/runtime";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ReferenceModel, referenceModel } from "../../../../packages/model/src/testing/reference-model.ts";
import { Heads } from "./heads.ts";

const ROWS = 96;

let reference: ReferenceModel;
let runtime: ModelRuntime;
let heads: Heads;
/** Hidden states as they come: unrelated, of every size. */
let hidden: Float32Array[];

beforeAll(async () => {
  reference = await referenceModel("plain-tied");
  const table = new Float32Array(2 * reference.model.spec.hidden);
  runtime = await ModelRuntime.open(reference.model, { slots: 16, table, threads: 1 });
  heads = new Heads(runtime);
  let state = 1;
  const next = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  hidden = Array.from({ length: ROWS }, (_, row) =>
    Float32Array.from({ length: reference.model.spec.hidden }, () => next() * (1 + (row % 12))),
  );
});

afterAll(async () => {
  runtime[Symbol.dispose]();
  await reference[Symbol.asyncDispose]();
});

const temperatureOf = (row: number) => [0, 0.5, 1, 2][row % 4] as number;

/** Groups of so many rows, in order. */
function groups(size: number): number[][] {
  return Array.from({ length: ROWS / size }, (_, group) => Array.from({ length: size }, (_, at) => group * size + at));
}

const rowsOf = (group: readonly number[]) => group.map((row) => hidden[row] as Float32Array);

// Tokens and log-probabilities to the bit. Entropies only nearly: this vocabulary is of an odd width, so that the runtime's
// sum begins at another alignment in every row. Of widths that are multiples of 4 they are the same to the bit as well.
describe("what a row says of its tokens does not depend, by a single bit, on the rows beside it", () => {
  test.each([2, 3, 4, 6, 8, 12, 16])("of the top head, in batches of %d", async (size) => {
    for (const group of groups(size)) {
      const together = await heads.top(rowsOf(group), group.map(temperatureOf));
      for (const [index, row] of group.entries()) {
        const [alone] = await heads.top(rowsOf([row]), [temperatureOf(row)]);
        expect(together[index]?.row).toEqual(alone?.row);
        expect(together[index]?.entropy).toBeCloseTo(alone?.entropy as number, 5);
      }
    }
  });

  test.each([2, 3, 4, 8, 16])("of scores, in batches of %d", async (size) => {
    for (const group of groups(size)) {
      const ids = group.map((row) => row % reference.model.spec.vocabulary);
      const together = await heads.score(Float32Array.from(rowsOf(group).flatMap((row) => [...row])), ids);
      for (const [index, row] of group.entries()) {
        const alone = await heads.score(hidden[row] as Float32Array, [ids[index] as number]);
        expect(together.logProbs[index]).toBe(alone.logProbs[0]);
        expect(together.entropies[index]).toBeCloseTo(alone.entropies[0] as number, 5);
      }
    }
  });

  test.each([2, 3, 4, 8, 16])("of the full logits, in batches of %d", async (size) => {
    for (const group of groups(size)) {
      const together = await heads.allLogits(rowsOf(group));
      for (const [index, row] of group.entries()) {
        expect(together[index]).toEqual(await heads.logits(hidden[row] as Float32Array));
      }
    }
  });
});

test("the likeliest tokens of more rows than slots are those of the top head, most likely first", async () => {
  const flat = Float32Array.from(hidden.slice(0, 40).flatMap((row) => [...row]));
  const found = await heads.likeliest(flat, 5);
  expect(found).toHaveLength(40);
  for (const [index, tokens] of found.entries()) {
    const logits = await heads.logits(hidden[index] as Float32Array);
    const ranked = Array.from(logits.keys()).sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
    expect(tokens.map(({ id }) => id)).toEqual(ranked.slice(0, 5));
    const total = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    tokens.forEach(({ id, logProb }) => {
      expect(logProb).toBeCloseTo((logits[id] as number) - total, 4);
    });
  }
});

test("the top candidates, the full logits and the scores tell of the same distribution", async () => {
  const { vocabulary } = reference.model.spec;
  for (const row of hidden.slice(0, 12)) {
    const logits = await heads.logits(row);
    const max = Math.max(...logits);
    const logSumExp = max + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - max), 0));
    const probabilities = Array.from(logits, (logit) => Math.exp(logit - logSumExp));
    const entropy = -probabilities.reduce((sum, p) => sum + (p === 0 ? 0 : p * Math.log(p)), 0);
    const [top] = await heads.top([row], [1]);
    expect(top?.row.logSumExp).toBeCloseTo(logSumExp, 4);
    expect(top?.row.temperedLogSumExp).toBeCloseTo(logSumExp, 4);
    expect(top?.entropy).toBeCloseTo(entropy, 4);
    const ranked = Array.from(logits, (_, id) => id).sort(
      (a, b) => (logits[b] as number) - (logits[a] as number) || a - b,
    );
    expect([...(top?.row.ids ?? [])]).toEqual(ranked.slice(0, Math.min(64, vocabulary)));
    const { logProbs, entropies } = await heads.score(row, [ranked[3] as number]);
    expect(logProbs[0]).toBeCloseTo((logits[ranked[3] as number] as number) - logSumExp, 4);
    expect(entropies[0]).toBeCloseTo(entropy, 4);
  }
});

test("more scores than slots are those of each alone", async () => {
  const ids = Array.from({ length: 40 }, (_, index) => index % reference.model.spec.vocabulary);
  const { logProbs } = await heads.score(Float32Array.from(hidden.slice(0, 40).flatMap((row) => [...row])), ids);
  for (const [index, id] of ids.entries()) {
    const alone = await heads.score(hidden[index] as Float32Array, [id]);
    expect(logProbs[index]).toBe(alone.logProbs[0]);
  }
});
