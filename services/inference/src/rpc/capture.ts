import { setImmediate } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CaptureActivationsRequest, type CaptureActivationsResponseSchema, Pooling } from "@persona-mesh/protocol";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { CaptureJob } from "../jobs/capture-job.ts";
import type { Worker } from "../worker.ts";
import { newJobId } from "./job-id.ts";
import { steeringFields } from "./persona-proof.ts";
import { wear } from "./persona-selection.ts";
import { encodePrompt, requireReadable, requireRoom } from "./prompt.ts";
import { runJobs } from "./run-jobs.ts";
import { tensorOf } from "./tensor.ts";

/** Bounds one call; larger extractions are several calls. */
const MAX_SAMPLES = 1024;

const POOLINGS = {
  [Pooling.LAST_PROMPT_TOKEN]: "LAST_PROMPT_TOKEN",
  [Pooling.RESPONSE_MEAN]: "RESPONSE_MEAN",
} as const;

/** CaptureActivations: every sample read once, unsteered, its residuals pooled where they arise. */
export async function* captureActivations(
  worker: Worker,
  request: CaptureActivationsRequest,
  context: CallContext,
): AsyncGenerator<MessageInitShape<typeof CaptureActivationsResponseSchema>> {
  const { layers, hidden } = worker.model.manifest.spec;
  const { samples } = request;
  const pooling = request.pooling in POOLINGS ? POOLINGS[request.pooling as keyof typeof POOLINGS] : undefined;
  if (pooling === undefined) throw ServiceError.invalid([{ field: "pooling", description: "choose a pooling" }]);
  if (samples.length === 0 || samples.length > MAX_SAMPLES) {
    throw ServiceError.invalid([{ field: "samples", description: `${samples.length}, must be 1 to ${MAX_SAMPLES}` }]);
  }
  // All of them first: a wrong sample fails the call before any work is done.
  const encoded: { prompt: number[]; response: number[] }[] = [];
  for (const [index, sample] of samples.entries()) {
    const prompt = encodePrompt(worker, sample.prompt, 0);
    requireReadable(worker, sample.response);
    const response = sample.response === "" ? [] : worker.text.tokenizer.encode(sample.response);
    if (pooling === "RESPONSE_MEAN" && response.length === 0) {
      throw ServiceError.invalid([{ field: `samples[${index}].response`, description: "has no tokens to pool over" }]);
    }
    requireRoom(worker, prompt.length + response.length, 0);
    encoded.push({ prompt, response });
    // Streams move on between one text and the next.
    await setImmediate();
  }
  context.annotate({ ...steeringFields(undefined, 0), samples: samples.length, pooling });
  const jobs = encoded.map(
    (sample) => () =>
      new CaptureJob({
        id: newJobId(context.requestId),
        tenant: context.caller.tenant,
        ...sample,
        pooling,
        layers,
        hidden,
        worn: wear(worker, undefined),
      }),
  );
  for await (const [index, { pooled, norms, sum }] of runJobs(worker.engine, jobs, context.signal)) {
    const sample = encoded[index] as (typeof encoded)[number];
    yield {
      index,
      pooled: tensorOf(pooled, [layers, hidden]),
      norms: tensorOf(norms, [norms.length / layers, layers]),
      sum: tensorOf(sum, [layers, hidden]),
      promptTokens: sample.prompt.length,
      responseTokens: sample.response.length,
    };
  }
}
