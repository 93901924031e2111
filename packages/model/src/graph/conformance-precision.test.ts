import { describe, expect, it } from "vitest";
import { ModelRuntime } from "../runtime/index.ts";
import { dequantizedModel } from "../testing/dequantized-model.ts";
import { cosine, forward, maxAbsDifference, unsteered } from "../testing/forward.ts";
import { missingFeatures } from "../testing/missing-features.ts";
import { REFERENCE_MODELS, type ReferenceModel, referenceModel } from "../testing/reference-model.ts";
import { logitsOf, openReference, tokensOf } from "../testing/reference-run.ts";
import { type Precision, precisionOf } from "./precision.ts";

/** What rounding may cost, of every model: the project's bounds. */
const LEAST_COSINE = { int8: 0.999, int4: 0.99 } as const;

/** Of integer graphs with float32 graphs over the same, rounded, weights: the rounding of activations is left. */
const SAME_WEIGHTS_COSINE = 0.9998;

/** Logits of both sequences of the reference, one after the other. */
async function allLogits(reference: ReferenceModel, runtime: ModelRuntime): Promise<Float32Array> {
  const logits = [];
  for (const row of [0, 1]) {
    const tokens = tokensOf(reference, row);
    const { logits: own } = await forward(runtime, 0, tokens, [[0, tokens.length]], () => unsteered(runtime.spec));
    logits.push(...own);
  }
  return Float32Array.from(logits);
}

function referenceLogits(reference: ReferenceModel): Float32Array {
  return Float32Array.from([0, 1].flatMap((row) => [...logitsOf(reference, "unsteered", row)]));
}

describe.each(REFERENCE_MODELS)("%s against transformers", (name) => {
  it.each(["int8", "int4"] as const)("gives the reference's logits but for rounding, in %s", async (precision) => {
    await using reference = await referenceModel(name, { precision: precisionOf(precision) });
    const { runtime } = await openReference(reference, 1);
    using _ = runtime;
    const wanted = referenceLogits(reference);
    const got = await allLogits(reference, runtime);
    expect(cosine(got, wanted)).toBeGreaterThan(LEAST_COSINE[precision]);
    // Rounded indeed: float32 graphs differ by a hundredth of this.
    expect(maxAbsDifference(got, wanted)).toBeGreaterThan(2e-3);
  });

  it("would not pass in int4 if it were read wrongly", async () => {
    await using unchanged = await referenceModel(name);
    const change = missingFeatures(unchanged.config).get("one added to norms");
    if (change === undefined) throw new Error("every model has norms");
    await using misread = await referenceModel(name, { change, precision: precisionOf("int4") });
    const { runtime } = await openReference(misread, 1);
    using _ = runtime;
    expect(cosine(await allLogits(misread, runtime), referenceLogits(misread))).toBeLessThan(0.9);
  });
});

/** Widths that fill no block of 128, tied and untied, every choice of the embedding's and the head's format. */
const CHOICES: readonly [name: string, what: string, Precision][] = [
  ["plain-tied", "int8", precisionOf("int8")],
  ["plain-tied", "int4", precisionOf("int4")],
  ["grouped-untied", "int4 in blocks of 128", precisionOf("int4", { block: 128 })],
  ["grouped-untied", "int8 in blocks of 128", precisionOf("int8", { block: 128 })],
  ["grouped-untied", "int4 throughout", precisionOf("int4", { embedding: "int4", head: "int4" })],
  ["grouped-untied", "int8 but for the head", precisionOf("int8", { embedding: "int4", head: "float32" })],
  ["grouped-untied", "int4 but for the embedding", precisionOf("int4", { embedding: "float32", head: "int8" })],
  ["phi3-longrope", "int4", precisionOf("int4")],
  ["gemma3", "int8", precisionOf("int8")],
];

it.each(CHOICES)(
  "%s in %s is the model of its rounded weights, but for the rounding of activations",
  async (...choice) => {
    const [name, , precision] = choice;
    await using reference = await referenceModel(name, { precision });
    const { runtime, table } = await openReference(reference, 1);
    using _ = runtime;
    const floats = await dequantizedModel(reference.model, reference.config.source, precision);
    using same = await ModelRuntime.open(floats, { slots: 1, table, threads: 1 });
    const [got, wanted] = [await allLogits(reference, runtime), await allLogits(reference, same)];
    expect(cosine(got, wanted)).toBeGreaterThan(SAME_WEIGHTS_COSINE);
    // The weights' own rounding shows: these are not the checkpoint's logits.
    expect(cosine(wanted, referenceLogits(reference))).toBeLessThan(0.99999);
  },
);

it("a tied head of another format than the embedding reads the same rounded weights in its own", async () => {
  const precision = precisionOf("int4", { embedding: "float32", head: "int4" });
  await using reference = await referenceModel("plain-tied", { precision });
  const { runtime } = await openReference(reference, 1);
  using _ = runtime;
  expect(reference.model.weights.map(({ name }) => name)).toContain("head.scales");
  expect(cosine(await allLogits(reference, runtime), referenceLogits(reference))).toBeGreaterThan(LEAST_COSINE.int4);
});

describe.each([
  ["grouped-untied", "int8"],
  ["grouped-untied", "int4"],
  ["gemma3", "int8"],
  ["smollm3-no-rope", "int4"],
] as const)("steering of %s in %s", (name, precisionName) => {
  const precision = precisionOf(precisionName);

  it("adds exactly the row, in float32, after exactly the unsteered layers", async () => {
    await using reference = await referenceModel(name, { precision });
    const { runtime, table } = await openReference(reference, 1);
    using _ = runtime;
    const { layers, hidden } = runtime.spec;
    const tokens = tokensOf(reference, 0).slice(0, 9);
    const layer = layers >> 1;
    const rows = new Array<number>(layers).fill(0);
    rows[layer] = layer + 1;
    const run = (gain: number) => forward(runtime, 0, tokens, [[0, 9]], () => ({ rows, gain, renorm: false }));
    const [still, moved] = [await run(0), await run(1)];
    for (let position = 0; position < tokens.length; position++) {
      for (let l = 0; l <= layer; l++) {
        const at = (position * layers + l) * hidden;
        const unmoved = still.residuals.slice(at, at + hidden);
        const added = unmoved.map((x, i) => x + (l === layer ? (table[(layer + 1) * hidden + i] as number) : 0));
        expect(moved.residuals.slice(at, at + hidden)).toEqual(added);
      }
    }
    expect(maxAbsDifference(moved.logits, still.logits)).toBeGreaterThan(0.1);
  });

  it("leaves an unsteered row bit-identical beside steered rows, at any batch size and place, and compiled out", async () => {
    const SLOTS = 9;
    await using reference = await referenceModel(name, { precision });
    const { runtime } = await openReference(reference, SLOTS);
    using _ = runtime;
    const { layers, hidden } = runtime.spec;
    const prompt = tokensOf(reference, 0).slice(0, 12);
    const prefill = async (model: ModelRuntime, slots: number) => {
      for (let slot = 0; slot < slots; slot++) {
        await forward(model, slot, prompt, [[0, prompt.length]], () => unsteered(model.spec));
      }
    };
    const step = async (model: ModelRuntime, count: number, isSteered: (row: number) => boolean) => {
      const batch = model.decodeBatch(count);
      batch.tokens.fill(5);
      batch.lastPosition.fill(prompt.length);
      for (let row = 0; row < count; row++) {
        batch.rows.subarray(row * layers, (row + 1) * layers).forEach((_, layer, rows) => {
          rows[layer] = isSteered(row) ? layer + 1 : 0;
        });
        batch.gain[row] = isSteered(row) ? 1 : 0;
        batch.renorm[row] = isSteered(row) ? row % 2 : 0;
      }
      await batch.run();
      return Array.from({ length: count }, (_, row) => batch.hidden.slice(row * hidden, (row + 1) * hidden));
    };
    await using plain = await referenceModel(name, { precision, steering: "off" });
    const { runtime: without } = await openReference(plain, 1);
    using __ = without;
    await prefill(without, 1);
    const [alone] = await step(without, 1, () => false);
    await prefill(runtime, SLOTS);
    for (const count of [1, 2, 3, 4, 7, 8, SLOTS]) {
      for (const steered of [() => false, (row: number) => row % 2 === 1, (row: number) => row % 3 !== 2]) {
        for (const [row, hiddenState] of (await step(runtime, count, steered)).entries()) {
          if (steered(row)) expect(maxAbsDifference(hiddenState, alone as Float32Array)).toBeGreaterThan(0.01);
          else expect(hiddenState, `row ${row} of ${count}`).toEqual(alone);
        }
      }
    }
  });
});
