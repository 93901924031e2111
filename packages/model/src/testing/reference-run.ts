import type { DecoderSpec } from "../graph/index.ts";
import { ModelRuntime } from "../runtime/index.ts";
import { forward, maxAbsDifference, type TestSteering, unsteered } from "./forward.ts";
import type { ReferenceModel } from "./reference-model.ts";

/**
 * Against transformers: float32 on both sides, sums in another order. The error is about 3e-5 on logits of spread 1 to 5;
 * 1e-3 is the project's bound.
 */
export const TOLERANCE = 1e-3;

/** What a missing feature moves some logit by, at least. */
export const FEATURE_SHOWS = 100 * TOLERANCE;

/** As in the script that made the reference. */
const PROMPT_TOKENS = 17;
const ALPHA = 0.6;

/** Norm of the steering rows of a model whose reference has no steered cases, by which its residuals move visibly. */
const OWN_ROW_NORM = 3;

/**
 * The model with a steering table of one row per layer: the directions of the reference, or, where it has none, of our own.
 *
 * @returns the table too, float32[layers + 1, hidden]
 */
export async function openReference(
  reference: ReferenceModel,
  slots = 2,
): Promise<{ runtime: ModelRuntime; table: Float32Array }> {
  const { layers, hidden } = reference.model.spec;
  const table = new Float32Array((layers + 1) * hidden);
  const steered = reference.names.includes("directions");
  const directions = steered ? reference.tensor("directions").data : undefined;
  const norms = steered ? reference.tensor("reference_norms").data : undefined;
  for (let i = 0; i < layers * hidden; i++) {
    table[hidden + i] =
      directions === undefined || norms === undefined
        ? (OWN_ROW_NORM * Math.sqrt(2) * Math.sin(1.7 * i + 0.01 * i * i)) / Math.sqrt(hidden)
        : ALPHA * (norms[Math.floor(i / hidden)] as number) * (directions[i] as number);
  }
  return { runtime: await ModelRuntime.open(reference.model, { slots, table, threads: 1 }), table };
}

/** Token ids of one sequence of the reference. */
export function tokensOf(reference: ReferenceModel, row: number): number[] {
  const { shape, data } = reference.tensor("tokens");
  const length = shape[1] as number;
  return [...data.subarray(row * length, (row + 1) * length)];
}

/** Logits of one sequence of the reference, float32[length, vocabulary]. */
export function logitsOf(reference: ReferenceModel, name: string, row: number): Float32Array {
  const { shape, data } = reference.tensor(`${name}.logits`);
  const elements = (shape[1] as number) * (shape[2] as number);
  return data.subarray(row * elements, (row + 1) * elements);
}

/** Table rows of a case such as `ADD-one-ALL`, and whether they act on the piece that starts at a position. */
export function steeringOf(name: string, spec: DecoderSpec): (start: number) => TestSteering {
  const none = unsteered(spec);
  if (name === "unsteered") return () => none;
  const [mode, where, positions] = name.split("-");
  const rows = none.rows.map((_, layer) => (where === "all" || layer === spec.layers >> 1 ? layer + 1 : 0));
  const acts = (start: number) => positions === "ALL" || (positions === "PROMPT") === start < PROMPT_TOKENS;
  return (start) => (acts(start) ? { rows, gain: 1, renorm: mode === "ADD_RENORM" } : none);
}

/**
 * Largest errors of logits and residuals over both sequences of the reference.
 *
 * @param name - `unsteered`, or a steered case
 * @param pieces - [start, end) in order, covering the sequence
 */
export async function errors(
  reference: ReferenceModel,
  runtime: ModelRuntime,
  name: string,
  pieces: readonly (readonly [number, number])[],
): Promise<{ logits: number; residuals: number }> {
  const { layers, hidden } = runtime.spec;
  const steering = steeringOf(name, reference.model.spec);
  const residualName = `${name}.residual`;
  const residuals = reference.names.includes(residualName) ? reference.tensor(residualName) : undefined;
  const worst = { logits: 0, residuals: 0 };
  const [batch, length] = reference.tensor(`${name}.logits`).shape as [number, number];
  for (let row = 0; row < batch; row++) {
    const got = await forward(runtime, row, tokensOf(reference, row), pieces, steering);
    worst.logits = Math.max(worst.logits, maxAbsDifference(got.logits, logitsOf(reference, name, row)));
    for (let layer = 0; residuals !== undefined && layer < layers; layer++) {
      for (let position = 0; position < length; position++) {
        const ours = (position * layers + layer) * hidden;
        const theirs = ((layer * batch + row) * length + position) * hidden;
        const difference = maxAbsDifference(
          got.residuals.subarray(ours, ours + hidden),
          residuals.data.subarray(theirs, theirs + hidden),
        );
        worst.residuals = Math.max(worst.residuals, difference);
      }
    }
  }
  return worst;
}
