import { describe, expect, it } from "vitest";
import type { ModelRuntime } from "../runtime/index.ts";
import { type Forward, forward, maxAbsDifference, tokenByToken, unsteered } from "../testing/forward.ts";
import { REFERENCE_MODELS, type ReferenceModel, referenceModel } from "../testing/reference-model.ts";
import {
  errors,
  FEATURE_SHOWS,
  logitsOf,
  openReference,
  steeringOf,
  TOLERANCE,
  tokensOf,
} from "../testing/reference-run.ts";
import { precisionOf } from "./precision.ts";
import type { SteeringParts } from "./steering.ts";

const CHUNKED: [number, number][] = [[0, 8], [8, 16], [16, 17], ...tokenByToken(17, 28)];

describe.each(["grouped-untied", "plain-tied"])("%s, steered, against transformers", (name) => {
  it("steers as a hook on the reference does: one layer and all, both modes, all positions, prompt, generated", async () => {
    await using reference = await referenceModel(name);
    const { runtime } = await openReference(reference);
    using _ = runtime;
    const cases = reference.names.filter((key) => key.includes("-") && key.endsWith(".logits"));
    expect(cases).toHaveLength(12);
    for (const key of cases) {
      const { logits, residuals } = await errors(reference, runtime, key.replace(".logits", ""), CHUNKED);
      expect(logits, key).toBeLessThan(TOLERANCE);
      expect(residuals, key).toBeLessThan(TOLERANCE);
    }
  });

  it("would not pass with another steering: each shows at a hundred times the tolerance", async () => {
    await using reference = await referenceModel(name);
    const { runtime, table } = await openReference(reference);
    using _ = runtime;
    const against = async (wanted: string, run: string) => {
      const got = await forward(runtime, 0, tokensOf(reference, 0), CHUNKED, steeringOf(run, reference.model.spec));
      return maxAbsDifference(got.logits, logitsOf(reference, wanted, 0));
    };
    for (const [wanted, run] of [
      ["ADD-one-ALL", "unsteered"],
      ["ADD-all-ALL", "ADD-one-ALL"],
      ["ADD_RENORM-all-ALL", "ADD-all-ALL"],
      ["ADD-all-ALL", "ADD-all-PROMPT"],
      ["ADD-all-ALL", "ADD-all-GENERATED"],
      ["ADD-all-GENERATED", "ADD-all-PROMPT"],
    ] as const) {
      expect(await against(wanted, run), `${run} in place of ${wanted}`).toBeGreaterThan(FEATURE_SHOWS);
    }
    table.fill(0);
    expect(await against("ADD-one-ALL", "ADD-one-ALL"), "an empty table").toBeGreaterThan(FEATURE_SHOWS);
  });
});

/** Prefill both sequences of the reference into their slots: 12 tokens in the first, other numbers in the others. */
async function prefilled(reference: ReferenceModel, slots: number): Promise<ModelRuntime> {
  const { runtime } = await openReference(reference, slots);
  for (let slot = 0; slot < slots; slot++) {
    const length = promptOf(slot);
    const tokens = tokensOf(reference, slot % 2).slice(0, length);
    await forward(runtime, slot, tokens, [[0, length]], () => unsteered(runtime.spec));
  }
  return runtime;
}

function promptOf(slot: number): number {
  return 12 + 5 * (slot % 3);
}

/** One decode step over `slots`; rows named in `steered` wear a persona in every layer. */
async function step(runtime: ModelRuntime, slots: number, steered: readonly number[]): Promise<Float32Array> {
  const { layers } = runtime.spec;
  const batch = runtime.decodeBatch(slots);
  batch.tokens.forEach((_, row) => {
    batch.tokens[row] = 5 + row;
    batch.lastPosition[row] = promptOf(row);
  });
  batch.rows.fill(0);
  batch.gain.fill(0);
  batch.renorm.fill(0);
  for (const row of steered) {
    for (let layer = 0; layer < layers; layer++) batch.rows[row * layers + layer] = layer + 1;
    batch.gain[row] = 1;
    batch.renorm[row] = row % 2;
  }
  await batch.run();
  return batch.hidden.slice();
}

describe.each(REFERENCE_MODELS)("%s in a batch", (name) => {
  it("leaves an unsteered row bit-identical: alone, in a batch, beside steered rows, and with steering compiled out", async () => {
    await using reference = await referenceModel(name);
    const { hidden } = reference.model.spec;
    using single = await prefilled(reference, 1);
    const alone = await step(single, 1, []);
    using runtime = await prefilled(reference, 6);
    for (const steered of [[], [1], [1, 2, 3, 4, 5]]) {
      const hiddenStates = await step(runtime, 6, steered);
      expect(hiddenStates.subarray(0, hidden)).toEqual(alone);
    }
    const moved = await step(runtime, 6, [0]);
    expect(maxAbsDifference(moved.subarray(0, hidden), alone)).toBeGreaterThan(FEATURE_SHOWS);

    for (const steering of ["off", "add", "full"] satisfies SteeringParts[]) {
      await using other = await referenceModel(name, { steering });
      using bare = await prefilled(other, 1);
      expect(await step(bare, 1, []), steering).toEqual(alone);
    }
  });
});

describe.each(["float32", "int8"] as const)("steering in a batch, %s", (precision) => {
  it("gives a row that adds the same bits beside rows that are rescaled and beside none, whichever graph runs", async () => {
    await using reference = await referenceModel("grouped-untied", { precision: precisionOf(precision) });
    using runtime = await prefilled(reference, 6);
    const { hidden } = reference.model.spec;
    const batch = runtime.decodeBatch(6);
    // Rows of odd places are rescaled.
    const [none, some] = [await step(runtime, 6, [0, 2]), await step(runtime, 6, [0, 2, 3])];
    expect(batch.renorm).toEqual(Uint8Array.of(0, 0, 0, 1, 0, 0));
    for (const row of [0, 1, 2, 4, 5]) {
      const [from, to] = [row * hidden, (row + 1) * hidden];
      expect(some.subarray(from, to), `row ${row}`).toEqual(none.subarray(from, to));
    }
    const [from, to] = [3 * hidden, 4 * hidden];
    expect(maxAbsDifference(some.subarray(from, to), none.subarray(from, to))).toBeGreaterThan(FEATURE_SHOWS);
  });
});

describe("steering in a batch", () => {
  it("measures the projection before the injection, also at gain 0", async () => {
    await using reference = await referenceModel("plain-tied");
    const { runtime, table } = await openReference(reference);
    using _ = runtime;
    const { layers, hidden } = runtime.spec;
    const rows = Array.from({ length: layers }, (_, layer) => layer + 1);
    const tokens = tokensOf(reference, 0).slice(0, 9);
    const at = (gain: number) => forward(runtime, 0, tokens, [[0, 9]], () => ({ rows, gain, renorm: false }));
    const still = await at(0);
    const dot = (result: Forward, position: number, layer: number) => {
      let sum = 0;
      for (let i = 0; i < hidden; i++) {
        sum +=
          (result.residuals[(position * layers + layer) * hidden + i] as number) *
          (table[(layer + 1) * hidden + i] as number);
      }
      return sum;
    };
    for (let position = 0; position < 9; position++) {
      for (let layer = 0; layer < layers; layer++) {
        expect(still.projections[position * layers + layer]).toBeCloseTo(dot(still, position, layer), 3);
      }
    }
    // At gain 1 the residual given out already holds the row, the projection does not.
    const moved = await at(1);
    const row = table.subarray(hidden, 2 * hidden);
    const squared = row.reduce((sum, x) => sum + x * x, 0);
    expect(dot(moved, 4, 0) - (moved.projections[4 * layers] as number)).toBeCloseTo(squared, 2);
  });

  it("keeps a zero residual and a row of infinities to themselves", async () => {
    await using reference = await referenceModel("plain-tied");
    using runtime = await prefilled(reference, 3);
    const clean = await step(runtime, 3, []);
    const { hidden } = runtime.spec;
    const batch = runtime.decodeBatch(3);
    batch.rows.fill(1);
    batch.gain.set([0, Number.POSITIVE_INFINITY, 0]);
    await batch.run();
    expect(batch.hidden.subarray(hidden, 2 * hidden).some(Number.isNaN)).toBe(true);
    expect(batch.hidden.subarray(0, hidden)).toEqual(clean.subarray(0, hidden));
    expect(batch.hidden.subarray(2 * hidden)).toEqual(clean.subarray(2 * hidden));
  });
});
