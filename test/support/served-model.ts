import type { InferenceClient } from "@persona-mesh/client";
import { type GetModelResponse, Pooling } from "@persona-mesh/protocol";
import { floatsOf } from "./tensor.ts";

/** The model as its worker tells of it, and how large its residuals are: what a vector for it needs to know. */
export interface ServedModel {
  readonly model: GetModelResponse;
  /** Median residual norm by layer, float[layers]. */
  readonly referenceNorms: readonly number[];
}

const SAMPLES = ["Where is my parcel?", "Please send me the invoice of my last order, I need it for my taxes."];

/** @param service - a client with the role service */
export async function askServedModel(service: InferenceClient): Promise<ServedModel> {
  const model = await service.getModel();
  const norms: number[][] = Array.from({ length: model.layers }, () => []);
  const samples = SAMPLES.map((text) => ({ prompt: { input: { case: "text" as const, value: text } } }));
  for await (const answer of service.captureActivations({ samples, pooling: Pooling.LAST_PROMPT_TOKEN })) {
    for (const [at, norm] of floatsOf(answer.norms).entries()) norms[at % model.layers]?.push(norm);
  }
  return { model, referenceNorms: norms.map(median) };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] as number;
}
