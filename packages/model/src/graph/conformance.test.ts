import { describe, expect, it } from "vitest";
import { SUPPORTED_MODEL_TYPES } from "../checkpoint/config.ts";
import { forward, maxAbsDifference, tokenByToken, unsteered } from "../testing/forward.ts";
import { FEATURES, missingFeatures } from "../testing/missing-features.ts";
import { REFERENCE_MODELS, referenceModel } from "../testing/reference-model.ts";
import { errors, FEATURE_SHOWS, logitsOf, openReference, TOLERANCE, tokensOf } from "../testing/reference-run.ts";
import { HEAD } from "./heads.ts";

/** Prefill in chunks, some of them past the windows and original contexts, then token by token. */
function chunked(length: number): [number, number][] {
  return [[0, 8], [8, 16], [16, 17], [17, 24], ...tokenByToken(24, length)];
}

it("has a model of every architecture and of every feature, and goes past windows and original contexts", async () => {
  const architectures = new Set<string>();
  const features = new Set<string>();
  for (const name of REFERENCE_MODELS) {
    await using reference = await referenceModel(name);
    architectures.add(reference.config.spec.architecture);
    for (const feature of missingFeatures(reference.config).keys()) features.add(feature);
    const { layerKinds, ropes } = reference.config.spec;
    const [, length] = reference.tensor("tokens").shape as [number, number];
    for (const { window } of layerKinds) if (window !== null) expect(2 * window, name).toBeLessThan(length);
    for (const { scaling } of ropes) {
      if ("originalContext" in scaling) expect(scaling.originalContext, name).toBeLessThan(length);
    }
  }
  expect(architectures).toEqual(new Set(SUPPORTED_MODEL_TYPES));
  expect(features).toEqual(new Set(FEATURES));
});

describe.each(REFERENCE_MODELS)("%s against transformers", (name) => {
  it("gives the reference's logits and residuals in one go, in chunks and token by token", async () => {
    await using reference = await referenceModel(name);
    const { runtime } = await openReference(reference);
    using _ = runtime;
    const { data, shape } = reference.tensor("unsteered.logits");
    const mean = data.reduce((sum, x) => sum + x, 0) / data.length;
    const spread = Math.sqrt(data.reduce((sum, x) => sum + (x - mean) ** 2, 0) / data.length);
    expect(spread).toBeGreaterThanOrEqual(1);
    expect(reference.names).toContain("unsteered.residual");
    const length = shape[1] as number;
    for (const pieces of [[[0, length] as const], chunked(length), tokenByToken(0, length)]) {
      const { logits, residuals } = await errors(reference, runtime, "unsteered", pieces);
      expect(logits).toBeLessThan(TOLERANCE);
      expect(residuals).toBeLessThan(TOLERANCE);
    }
  });

  it("gives the reference's logits to rows of different lengths that decode together", async () => {
    await using reference = await referenceModel(name);
    const { runtime } = await openReference(reference, 4);
    using _ = runtime;
    const { vocabulary } = runtime.spec;
    const sequences = [0, 1, 0, 1].map((row) => ({ tokens: tokensOf(reference, row), row }));
    const steps = 12;
    const length = sequences[0]?.tokens.length as number;
    // One row starts with nothing, one ends with the sequence.
    const prompts = [length - steps, 9, 3, 0];
    for (const [slot, { tokens }] of sequences.entries()) {
      const prompt = prompts[slot] as number;
      if (prompt > 0)
        await forward(runtime, slot, tokens.slice(0, prompt), [[0, prompt]], () => unsteered(runtime.spec));
    }
    const batch = runtime.decodeBatch(sequences.length);
    const head = runtime.headBatch("head-logits", sequences.length);
    let worst = 0;
    for (let step = 0; step < steps; step++) {
      for (const [slot, { tokens }] of sequences.entries()) {
        const position = (prompts[slot] as number) + step;
        batch.tokens[slot] = tokens[position] as number;
        batch.lastPosition[slot] = position;
      }
      await batch.run();
      head.floats(HEAD.hidden).set(batch.hidden);
      await head.run();
      for (const [slot, { row }] of sequences.entries()) {
        const position = (prompts[slot] as number) + step;
        const got = head.floats(HEAD.logits).subarray(slot * vocabulary, (slot + 1) * vocabulary);
        const wanted = logitsOf(reference, "unsteered", row).subarray(
          position * vocabulary,
          (position + 1) * vocabulary,
        );
        worst = Math.max(worst, maxAbsDifference(got, wanted));
      }
    }
    expect(worst).toBeLessThan(TOLERANCE);
  });

  it("would not pass without a feature of the model: each shows at a hundred times the tolerance", async () => {
    await using unchanged = await referenceModel(name);
    for (const [feature, change] of missingFeatures(unchanged.config)) {
      await using reference = await referenceModel(name, { change });
      const { runtime } = await openReference(reference);
      using _ = runtime;
      const { shape } = reference.tensor("unsteered.logits");
      const { logits } = await errors(reference, runtime, "unsteered", [[0, shape[1] as number]]);
      expect(logits, feature).toBeGreaterThan(FEATURE_SHOWS);
    }
  });
});

it("refuses a layer whose kind or rotary embedding is not described, instead of leaving out its positions", async () => {
  const kind = { window: null, rope: 1 };
  await expect(referenceModel("plain-tied", { change: { spec: { layerKinds: [kind, kind] } } })).rejects.toThrow(
    "layer 0: no rotary embedding 1",
  );
  await expect(referenceModel("plain-tied", { change: { spec: { layerKinds: [] } } })).rejects.toThrow(
    "no kind of layer for layer 0 of 2",
  );
});
