import type { FinishReason, Job } from "./job.ts";

/** The two parts of a sequence that steering tells apart. */
export type Phase = "prompt" | "generated";

/** Positions `start` to `end` − 1 of one slot, through a view of that slot alone. */
export interface PrefillStep<J extends Job> {
  readonly kind: "prefill";
  readonly slot: number;
  readonly job: J;
  /** A multiple of the chunk size, or where the phase changes, a rewind begins or a follower stood. */
  readonly start: number;
  /** Exclusive: a multiple of the chunk size, or the end of the phase or of what is known. */
  readonly end: number;
  /** Which part of the sequence the positions belong to; a chunk is never in both. */
  readonly phase: Phase;
  /** After it a `generate` job has the hidden state of its first token, and a `prefill` job is over. */
  readonly isLast: boolean;
  /** The positions were computed before: after a rewind, with tokens of the reply among them. */
  readonly repeats: boolean;
}

/** One row of a decode step. The attention kernel writes a key and a value for every row, wanted or not. */
export type DecodeRow<J extends Job> =
  /** Writes the job's newest token at `position`. */
  | { readonly kind: "decode"; readonly job: J; readonly position: number }
  /** Writes garbage at `position`, where nothing is yet and something will be before it is read. */
  | { readonly kind: "idle"; readonly position: number };

/** One position for every decoding slot. */
export interface DecodeStep<J extends Job> {
  readonly kind: "decode";
  /** Slots 0 to n − 1, where n − 1 is the highest decoding slot. */
  readonly rows: readonly DecodeRow<J>[];
}

export type Step<J extends Job> = PrefillStep<J> | DecodeStep<J>;

/** What a step brought one job. */
export type RowOutcome =
  /** The chunk is in, or a token was sampled and is to be written by the next decode step. */
  | { readonly kind: "continue" }
  /**
   * A token was sampled and is to be written; but before that, positions `from` and up are computed anew from the tokens so
   * far, in chunks. `from` is 0 to the position of that token, where it is the same as to continue.
   */
  | { readonly kind: "rewind"; readonly from: number }
  /** A token was sampled and is the last one; or the job has what it wanted. */
  | { readonly kind: "finish"; readonly reason: Exclude<FinishReason, "prefilled"> }
  /** This row alone is lost. */
  | { readonly kind: "fail"; readonly error: unknown };
