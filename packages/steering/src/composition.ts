import { SteeringError } from "./error.ts";
import type { Finding } from "./term.ts";

/**
 * What is done when the terms do not go together as written.
 *
 * - `ACCEPT`: they are added as written, however much they overlap. Over the budget they are refused all the same: the
 *   budget is the operator's, and a persona's author cannot vote it away.
 * - `SCALE`: over the budget, all rows are scaled by one factor, so that the persona keeps its shape over terms and
 *   layers; it is as if the persona had been written with a smaller gain.
 * - `ORTHOGONALIZE`: at each layer a term loses the part that the terms before it already cover (Gram–Schmidt in the order
 *   written). What is left is not stretched back to unit length: that would blow noise up when terms are almost parallel.
 *   Refused over the budget, and when next to nothing is left of a term.
 * - `REJECT`: added as written, refused over the budget *and* where two terms overlap by more than `MAX_OVERLAP`.
 */
export type CompositionPolicy = "ACCEPT" | "SCALE" | "ORTHOGONALIZE" | "REJECT";

/** Whether alpha is a share of the reference norm, or the literal `x + alpha · v`. */
export type Scale = "REFERENCE_NORM" | "UNIT";

/** What happened at one layer. */
export interface LayerComposition {
  readonly layer: number;
  /** Indices of the terms that act here, in the order written. */
  readonly terms: readonly number[];
  /** Inner products of their unit directions, float64[terms × terms], row-major. */
  readonly gram: Float64Array;
  /** Share of each term's direction that Gram–Schmidt left, 0 to 1; all 1 under the other policies. */
  readonly remainders: readonly number[];
  /** Smallest reference norm of the terms here: where they differ, the dose is never understated. */
  readonly referenceNorm: number;
  /** Dose of the plain sum. */
  readonly writtenDose: number;
  /** Dose of the row: as it acts, or as it was refused. */
  readonly dose: number;
}

interface Explanation {
  /** Ascending by layer; empty when the terms were unfit to compose. */
  readonly layers: readonly LayerComposition[];
  /** Doses summed over layers. */
  readonly totalDose: number;
  /** What was changed or refused, and why; empty when nothing was. */
  readonly findings: readonly Finding[];
}

/** A composition that may act. */
export interface Composed extends Explanation {
  readonly outcome: "ACCEPTED" | "SCALED" | "ORTHOGONALIZED";
  /** Delta by layer, ascending, float32[hidden] each; owned by the caller. */
  readonly rows: ReadonlyMap<number, Float32Array>;
  /** What SCALE multiplied the rows by; 1 otherwise. */
  readonly factor: number;
}

/** A composition that may not act; it has no rows and at least one finding. */
export interface Rejected extends Explanation {
  readonly outcome: "REJECTED";
}

export type Composition = Composed | Rejected;

/**
 * Go on only with a composition that may act.
 *
 * @throws SteeringError with the reason, message and numbers of the first finding
 */
export function requireComposed(composition: Composition): asserts composition is Composed {
  if (composition.outcome !== "REJECTED") return;
  const [first, ...others] = composition.findings as [Finding, ...Finding[]];
  const more = others.length > 0 ? ` (and ${others.length} more)` : "";
  throw new SteeringError(first.reason, first.message + more, first.details);
}
