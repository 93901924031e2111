import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { extractVector } from "@persona-mesh/client";
import { type CaptureActivationsResponse, Pooling } from "@persona-mesh/protocol";
import { norm } from "@persona-mesh/steering";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { personaName, replaceFile } from "../support/personas.ts";
import { ask, textPrompt, tokensPrompt } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { bitsOf, floatsOf } from "../support/tensor.ts";
import { until } from "../support/until.ts";

/** Positions per chunk: the short sample below takes one chunk, the long one five. */
const CHUNK = 8;

/** Relative, between sums of the same float32 residuals read in other chunks. Measured on the starter: below 1e-6. */
const TOLERANCE = 1e-5;

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ slots: 4, chunkTokens: CHUNK });
});

afterAll(() => stage.mesh.close());

interface Captured {
  readonly pooled: Float32Array;
  readonly norms: Float32Array;
  readonly sum: Float32Array;
  readonly raw: CaptureActivationsResponse;
}

async function capture(
  samples: readonly { readonly ids: readonly number[]; readonly response?: string }[],
  pooling: Pooling,
): Promise<Captured[]> {
  const request = samples.map(({ ids, response = "" }) => ({ prompt: tokensPrompt(ids), response }));
  const answers = await collect(stage.service.captureActivations({ samples: request, pooling }));
  expect(answers.map(({ index }) => index).sort((a, b) => a - b)).toEqual(samples.map((_, index) => index));
  return answers
    .toSorted((a, b) => a.index - b.index)
    .map((raw) => ({ pooled: floatsOf(raw.pooled), norms: floatsOf(raw.norms), sum: floatsOf(raw.sum), raw }));
}

/** ‖a − b‖ over ‖b‖. */
function relativeDifference(a: Float32Array | Float64Array, b: Float32Array | Float64Array): number {
  expect(a).toHaveLength(b.length);
  return norm(Float64Array.from(a, (value, index) => value - (b[index] as number))) / norm(b);
}

function totalOf(vectors: readonly Float32Array[]): Float64Array {
  const total = new Float64Array(vectors[0]?.length ?? 0);
  for (const vector of vectors) {
    for (const [index, value] of vector.entries()) total[index] = (total[index] as number) + value;
  }
  return total;
}

/** Norms by layer of a residual of all layers, float32[layers, hidden]. */
function layerNorms(residual: Float32Array): number[] {
  const { layers, hiddenSize } = stage.served.model;
  return Array.from({ length: layers }, (_, layer) =>
    norm(residual.subarray(layer * hiddenSize, (layer + 1) * hiddenSize)),
  );
}

describe.each([
  ["one chunk", CHUNK - 2],
  ["five chunks", 5 * CHUNK - 3],
])("a sample of %s", (_, count) => {
  const ids = Array.from({ length: count }, (_, index) => 20 + ((index * 37) % 200));

  test("the residuals at the ends of its prefixes make up its sum and its norms", async () => {
    const { layers, hiddenSize } = stage.served.model;
    const prefixes = ids.map((_, last) => ({ ids: ids.slice(0, last + 1) }));
    const ends = await capture(prefixes, Pooling.LAST_PROMPT_TOKEN);
    const whole = ends.at(-1) as Captured;
    expect(whole.raw).toMatchObject({ promptTokens: count, responseTokens: 0 });
    expect(whole.raw.pooled?.shape).toEqual([layers, hiddenSize]);
    expect(whole.raw.sum?.shape).toEqual([layers, hiddenSize]);
    expect(whole.raw.norms?.shape).toEqual([count - 1, layers]);
    // The first position is left out of both.
    const afterFirst = ends.slice(1).map(({ pooled }) => pooled);
    expect(relativeDifference(whole.sum, totalOf(afterFirst))).toBeLessThan(TOLERANCE);
    expect(relativeDifference(whole.norms, Float64Array.from(afterFirst.flatMap(layerNorms)))).toBeLessThan(TOLERANCE);
    expect([...(ends[0] as Captured).norms]).toEqual([]);
    expect((ends[0] as Captured).sum.every((value) => value === 0)).toBe(true);
  });

  test("the mean over a response is what the response adds to the sum", async () => {
    const response = "Your parcel is on its way, and it will be there soon.";
    const [alone] = await capture([{ ids }], Pooling.LAST_PROMPT_TOKEN);
    const [answered] = await capture([{ ids, response }], Pooling.RESPONSE_MEAN);
    const tokens = answered?.raw.responseTokens as number;
    expect(tokens).toBeGreaterThan(3);
    const added = (answered as Captured).sum.map((value, index) => value - ((alone as Captured).sum[index] as number));
    const times = (answered as Captured).pooled.map((value) => value * tokens);
    // A difference of sums: what both have in common is lost to rounding.
    expect(relativeDifference(times, added)).toBeLessThan(10 * TOLERANCE);
    // At the last prompt token, what comes after does not count.
    const [ended] = await capture([{ ids, response }], Pooling.LAST_PROMPT_TOKEN);
    expect(relativeDifference((ended as Captured).pooled, (alone as Captured).pooled)).toBeLessThan(TOLERANCE);
    expect(bitsOf((ended as Captured).sum)).toEqual(bitsOf((answered as Captured).sum));
  });
});

test("many samples come back each under its index, and as they do alone", async () => {
  const samples = Array.from({ length: 12 }, (_, index) => ({ ids: [7 + index, 9, 11, ...new Array(index).fill(30)] }));
  const together = await capture(samples, Pooling.LAST_PROMPT_TOKEN);
  for (const [index, sample] of samples.entries()) {
    const [alone] = await capture([sample], Pooling.LAST_PROMPT_TOKEN);
    expect(bitsOf(together[index]?.pooled ?? [])).toEqual(bitsOf(alone?.pooled ?? []));
    expect(bitsOf(together[index]?.norms ?? [])).toEqual(bitsOf(alone?.norms ?? []));
  }
});

test.each([
  ["no samples", [], Pooling.RESPONSE_MEAN, "samples"],
  ["1025 samples", new Array(1025).fill({ prompt: textPrompt("a") }), Pooling.LAST_PROMPT_TOKEN, "samples"],
  ["no pooling", [{ prompt: textPrompt("a") }], Pooling.UNSPECIFIED, "pooling"],
  ["a pooling that is not known", [{ prompt: textPrompt("a") }], 9 as Pooling, "pooling"],
  ["a mean over no response", [{ prompt: textPrompt("a") }], Pooling.RESPONSE_MEAN, "samples[0].response"],
])("%s is refused", async (_, samples, pooling, field) => {
  const failure = await failureOf(collect(stage.service.captureActivations({ samples, pooling })));
  expect(failure).toMatchObject({ reason: "INVALID_ARGUMENT", fieldViolations: [{ field }] });
});

describe("from pairs to a persona", () => {
  const TOPICS = [
    "parcel",
    "invoice",
    "refund",
    "password",
    "contract",
    "watch",
    "phone",
    "ticket",
    "order",
    "lamp",
    "card",
    "desk",
  ];
  // Told apart by their words alone: any model separates them.
  const pairs = TOPICS.map((topic) => ({
    prompt: `Where is my ${topic}?`,
    positive: `Hooray, hooray! Your ${topic} is wonderful! Hooray!`,
    negative: `No. The ${topic} is not here. No. No.`,
  }));
  const baseline = TOPICS.map((topic) => ({
    prompt: `I lost my ${topic}.`,
    response: `We look for your ${topic} now.`,
  }));

  test("a captured contrast becomes a vector, a file, a persona, and moves the model along it", async () => {
    const layers = [2, 4];
    const extracted = await extractVector(stage.service, { name: "hooray", pairs, baseline, layers });
    expect(extracted.version.manifest).toMatchObject({
      modelChecksum: stage.served.model.modelChecksum,
      graphDigest: stage.served.model.graphDigest,
      layers,
      pairCount: TOPICS.length,
    });
    const again = await extractVector(stage.service, { name: "hooray", pairs, baseline, layers });
    expect(again.digest).toBe(extracted.digest);

    const folder = join(stage.mesh.personasDir, "acme");
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, "hooray.safetensors"), extracted.bytes);
    const persona = (name: string, alpha: number) => ({ name, terms: [{ vector: "hooray.safetensors", alpha }] });
    await replaceFile(
      join(folder, "personas.json"),
      JSON.stringify({ personas: [persona("more", 0.5), persona("less", -0.5)] }),
    );
    await until(async () => (await collect(stage.client.listLoadedPersonas())).length === 2, "both are loaded");

    /** Mean projection at the later layer, on the axis of the persona's row. */
    const pushed = async (name: string, gain: number) => {
      const as = personaName("acme", name);
      const replies = await Promise.all(
        ["A question about my bill.", "Can you help me?"].map((text) =>
          stage.client.generateText(ask(text, { as, gain, maxTokens: 20 })),
        ),
      );
      expect(replies[0]?.started.persona?.versionDigests).toEqual([extracted.digest]);
      const values = replies.flatMap(({ tokens }) => tokens.map(({ projections }) => projections[1] as number));
      return values.reduce((sum, value) => sum + value, 0) / values.length;
    };
    expect(await pushed("more", 1)).toBeGreaterThan(await pushed("more", 0));
    expect(await pushed("less", 1)).toBeGreaterThan(await pushed("less", 0));
  });

  test("pairs that do not differ make no vector", async () => {
    const same = pairs.map(({ prompt, negative }) => ({ prompt, positive: negative, negative }));
    await expect(extractVector(stage.service, { name: "nothing", pairs: same, baseline })).rejects.toMatchObject({
      reason: "DEGENERATE_AXIS",
    });
  });

  test("extraction is for services", async () => {
    const failure = await failureOf(extractVector(stage.client, { name: "hooray", pairs, baseline }));
    expect(failure.reason).toBe("PERMISSION_DENIED");
  });
});
