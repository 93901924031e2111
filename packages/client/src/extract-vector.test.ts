import { create } from "@bufbuild/protobuf";
import { CaptureActivationsResponseSchema, Pooling } from "@persona-mesh/protocol";
import { decodeVector, versionDigest } from "@persona-mesh/steering";
import { describe, expect, it } from "vitest";
import type { ContrastPair, ReplySample } from "./contrast-samples.ts";
import { type ExtractionProgress, type ExtractVectorOptions, extractVector } from "./extract-vector.ts";
import { PLANTED_AXIS, SHAPE, SyntheticWorker } from "./testing/synthetic-activations.ts";

const pairs: ContrastPair[] = Array.from({ length: 40 }, (_, i) => ({
  prompt: `question ${i}`,
  positive: `glad to help with ${i}`,
  negative: `the answer is ${i}`,
}));
const baseline: ReplySample[] = Array.from({ length: 50 }, (_, i) => ({ prompt: `ask ${i}`, response: `reply ${i}` }));
const OPTIONS: ExtractVectorOptions = { name: "cheerful", pairs, baseline, layers: [1, 2] };

describe("extractVector", () => {
  it("finds the planted direction and writes it with its provenance", async () => {
    const { version, bytes, digest, extraction } = await extractVector(new SyntheticWorker(), OPTIONS);
    for (const layer of [1, 2]) expect(version.directions.get(layer)?.[PLANTED_AXIS]).toBeGreaterThan(0.95);
    expect(extraction.layers.every(({ quality }) => quality.auc === 1)).toBe(true);
    expect(version.manifest).toMatchObject({
      name: "cheerful",
      modelChecksum: "a".repeat(64),
      graphDigest: "b".repeat(64),
      layers: [1, 2],
      layerCount: SHAPE.layers,
      referenceNorms: [12, 12],
      method: "MEAN_DIFF",
      pooling: "response_mean",
      pairCount: 40,
    });
    expect(decodeVector(bytes).manifest).toEqual(version.manifest);
    expect(versionDigest(bytes)).toBe(digest);
  });

  it("gives the same bytes in whatever order the worker answers", async () => {
    const straight = await extractVector(new SyntheticWorker(), OPTIONS);
    const reversed = await extractVector(new SyntheticWorker({ tamper: (answers) => answers.reverse() }), OPTIONS);
    expect(reversed.digest).toBe(straight.digest);
  });

  it("changes the digests of pairs and baseline with their text", async () => {
    const { manifest } = (await extractVector(new SyntheticWorker(), OPTIONS)).version;
    const changed = await extractVector(new SyntheticWorker(), {
      ...OPTIONS,
      pairs: pairs.map((pair, i) => (i === 7 ? { ...pair, negative: "the answer is not 7" } : pair)),
      baseline: baseline.toReversed(),
    });
    expect(changed.version.manifest.pairsDigest).not.toBe(manifest.pairsDigest);
    expect(changed.version.manifest.baselineDigest).not.toBe(manifest.baselineDigest);
  });

  it("reports every captured sample, and the figures before they are judged", async () => {
    const events: ExtractionProgress[] = [];
    await extractVector(new SyntheticWorker(), OPTIONS, (event) => events.push(event));
    expect(events.at(0)).toEqual({ kind: "capturing", done: 1, total: 130 });
    expect(events.at(-2)).toEqual({ kind: "capturing", done: 130, total: 130 });
    expect(events.at(-1)?.kind).toBe("extracted");
    expect(events).toHaveLength(131);
  });

  it("refuses labels that say nothing, after showing the figures", async () => {
    const shuffled = pairs.map((pair, i) =>
      i % 2 === 0 ? pair : { ...pair, positive: pair.negative, negative: pair.positive },
    );
    const seen: string[] = [];
    const run = extractVector(new SyntheticWorker(), { ...OPTIONS, pairs: shuffled }, ({ kind }) => seen.push(kind));
    await expect(run).rejects.toMatchObject({ reason: "NO_SEPARATION" });
    expect(seen.at(-1)).toBe("extracted");
  });

  it("sends samples in batches that fit one message", async () => {
    const worker = new SyntheticWorker();
    const long = pairs.map((pair) => ({ ...pair, prompt: pair.prompt.padEnd(200_000, "x") }));
    await extractVector(worker, { ...OPTIONS, pairs: long });
    const sizes = worker.requests.map(({ samples }) => Buffer.byteLength(JSON.stringify(samples)));
    expect(Math.max(...sizes)).toBeLessThan(2 << 20);
    expect(worker.requests.flatMap(({ samples }) => samples)).toHaveLength(130);
    expect(Math.max(...worker.requests.map(({ samples }) => samples?.length ?? 0))).toBe(32);
  });

  it("puts the system line in front and the reply after the prompt", async () => {
    const worker = new SyntheticWorker();
    const system = "Be kind.";
    await extractVector(worker, { ...OPTIONS, pairs: pairs.map((pair) => ({ ...pair, system })) });
    const [, , request] = worker.requests;
    expect(request?.pooling).toBe(Pooling.RESPONSE_MEAN);
    expect(request?.samples?.[0]).toEqual({
      prompt: {
        input: {
          case: "chat",
          value: {
            messages: [
              { role: "system", content: "Be kind." },
              { role: "user", content: "question 0" },
            ],
          },
        },
      },
      response: "glad to help with 0",
    });
  });

  it("makes the replies an earlier turn when the last prompt token is read", async () => {
    const worker = new SyntheticWorker();
    const { version } = await extractVector(worker, { ...OPTIONS, pooling: "last_prompt_token" });
    expect(version.manifest.pooling).toBe("last_prompt_token");
    const sample = worker.requests[2]?.samples?.[0];
    expect(worker.requests[2]?.pooling).toBe(Pooling.LAST_PROMPT_TOKEN);
    expect(sample).toMatchObject({
      prompt: {
        input: { value: { messages: [{ role: "user" }, { role: "assistant", content: "glad to help with 0" }] } },
      },
    });
    expect(sample).not.toHaveProperty("response");
  });

  it("takes the middle band where no layers are given, and all but the last for all", async () => {
    const middle = await extractVector(new SyntheticWorker(), { name: "x", pairs, baseline });
    expect(middle.version.manifest.layers).toEqual([2]);
    const options: ExtractVectorOptions = { ...OPTIONS, layers: "all" };
    const all: ExtractionProgress[] = [];
    // Layer 0 knows nothing of the concept, so the whole is refused; what was extracted shows the layers.
    await extractVector(new SyntheticWorker(), options, (event) => all.push(event)).catch(() => {});
    const last = all.at(-1);
    expect(last?.kind === "extracted" && last.extraction.layers.map(({ layer }) => layer)).toEqual([0, 1, 2]);
  });

  it.each([
    ["too few pairs", { pairs: pairs.slice(0, 3) }, "TOO_FEW_PAIRS"],
    ["a layer that the model does not have", { layers: [4] }, "LAYER_OUT_OF_RANGE"],
    ["a name with a line break", { name: "a\nb" }, "VECTOR_MANIFEST_INVALID"],
    ["an empty name", { name: "" }, "VECTOR_MANIFEST_INVALID"],
  ])("refuses %s before anything is captured", async (_, change, reason) => {
    const worker = new SyntheticWorker();
    await expect(extractVector(worker, { ...OPTIONS, ...change })).rejects.toMatchObject({ reason });
    expect(worker.requests).toEqual([]);
  });

  it.each([
    ["a sample is left out", new SyntheticWorker({ tamper: (answers) => answers.slice(1) })],
    ["a sample comes twice", new SyntheticWorker({ tamper: (answers) => [...answers, ...answers.slice(0, 1)] })],
    [
      "a tensor is missing",
      new SyntheticWorker({
        tamper: (answers) => answers.map(({ index }) => create(CaptureActivationsResponseSchema, { index })),
      }),
    ],
    [
      "a tensor has another width",
      new SyntheticWorker({
        tamper: (answers) => {
          for (const { sum } of answers) if (sum) sum.shape = [SHAPE.layers, SHAPE.hiddenSize + 1];
          return answers;
        },
      }),
    ],
    ["the model changes meanwhile", new SyntheticWorker({ checksum: (call) => String(call).repeat(64) })],
  ])("refuses the answers when %s", async (_, worker) => {
    await expect(extractVector(worker, OPTIONS)).rejects.toMatchObject({ reason: "RESPONSE_INVALID" });
  });
});
