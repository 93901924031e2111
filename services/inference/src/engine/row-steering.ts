import type { Phase } from "../scheduler/index.ts";
import type { Lease } from "../table/index.ts";

/** Which positions of a sequence a persona acts on. */
export type Positions = "ALL" | "PROMPT" | "GENERATED";

/** How one row of the batch is steered in the next step. Changed between steps only. */
export interface RowSteering {
  /** Rows of the table; undefined for an unsteered row. */
  readonly lease: Lease | undefined;
  /** 0 to 1; at 0 the projections are measured and nothing is added. */
  readonly gain: number;
  /** `ADD_RENORM` instead of `ADD`. */
  readonly renorm: boolean;
  readonly positions: Positions;
}

/** A row that wears no persona. */
export const UNSTEERED: RowSteering = { lease: undefined, gain: 0, renorm: false, positions: "ALL" };

/** The gain that acts on the positions of a phase. */
export function gainAt({ gain, positions }: RowSteering, phase: Phase): number {
  const acts = positions === "ALL" || (positions === "PROMPT") === (phase === "prompt");
  return acts ? gain : 0;
}

/** The steering inputs of a body run. */
interface SteeringInputs {
  /** int32[batch, layers] */
  readonly rows: Int32Array;
  /** float32[batch] */
  readonly gain: Float32Array;
  /** bool[batch] */
  readonly renorm: Uint8Array;
}

/** Write one batch row's steering: this, and nothing else, is what a persona switch costs. */
export function writeSteering(
  inputs: SteeringInputs,
  row: number,
  layers: number,
  steering: RowSteering,
  phase: Phase,
): void {
  const gain = gainAt(steering, phase);
  inputs.gain[row] = gain;
  // At gain 0 nothing moves, and the quotient of the norms is 1 only if nothing is divided.
  inputs.renorm[row] = steering.renorm && gain !== 0 ? 1 : 0;
  if (steering.lease === undefined) inputs.rows.fill(0, row * layers, (row + 1) * layers);
  else inputs.rows.set(steering.lease.rows, row * layers);
}
