/** Why a composition was changed or refused. Stable: callers map these to RPC statuses and documents list them. */
export type CompositionReason =
  /** No terms, more than the limit, or a steered layer on none of them. */
  | "TERM_COUNT"
  /** Two terms carry the same id. */
  | "DUPLICATE_TERM"
  /** A term names a layer twice. */
  | "DUPLICATE_LAYER"
  /** A layer that the model does not have. */
  | "LAYER_OUT_OF_RANGE"
  /** A term asks for a layer that its vector has no direction for. */
  | "LAYER_NOT_IN_VECTOR"
  /** An alpha that is not a whole number of hundredths. */
  | "ALPHA_NOT_HUNDREDTHS"
  /** |alpha| over the cap of the deployment context. */
  | "ALPHA_OVER_CAP"
  /** NaN or Inf in a vector, a norm, or the composed row. */
  | "VECTOR_NOT_FINITE"
  /** A vector as wide as another model's hidden size. */
  | "VECTOR_WIDTH_MISMATCH"
  /** A direction that is not of unit length, all zeros included. */
  | "VECTOR_NOT_UNIT"
  /** A reference norm that is not a positive finite number. */
  | "REFERENCE_NORM_INVALID"
  /** The dose at a layer, or summed over layers, is over the budget. */
  | "DOSE_OVER_BUDGET"
  /** Two terms push along the same axis. */
  | "TERMS_OVERLAP"
  /** An axis too short to have a direction, or a term that lies in the span of the terms before it. */
  | "DEGENERATE_AXIS";

/** Why an alpha policy was refused. */
export type AlphaReason =
  | "ALPHA_NOT_HUNDREDTHS"
  | "ALPHA_OVER_CAP"
  | "CAP_OUT_OF_RANGE"
  | "CAP_RAISED"
  | "GAIN_OUT_OF_RANGE";

/** Why no direction could be had from activations. */
export type ExtractionReason =
  | "TOO_FEW_PAIRS"
  | "TOO_MANY_PAIRS"
  | "SHAPE_MISMATCH"
  | "LAYER_OUT_OF_RANGE"
  | "DUPLICATE_LAYER"
  | "VECTOR_NOT_FINITE"
  | "VECTOR_WIDTH_MISMATCH"
  | "REFERENCE_NORM_INVALID"
  | "BASELINE_EMPTY"
  | "BASELINE_TOO_LARGE"
  /** The baseline mean, or the difference that is left beside it, has no direction. */
  | "DEGENERATE_AXIS"
  /** Held out, the direction tells the two sides apart no better than chance may. */
  | "NO_SEPARATION";

/** Why bytes are not a vector version. */
export type VectorFormatReason =
  /** Over a size limit; nothing was allocated for it. */
  | "VECTOR_FILE_TOO_LARGE"
  /** Shorter or longer than its own header says. */
  | "VECTOR_FILE_TRUNCATED"
  /** The header is not what the format asks for. */
  | "VECTOR_HEADER_INVALID"
  /** A manifest field is missing, unknown or out of range. */
  | "VECTOR_MANIFEST_INVALID"
  /** The tensors are not those that the manifest names. */
  | "VECTOR_TENSORS_INVALID"
  | "VECTOR_NOT_FINITE"
  | "VECTOR_NOT_UNIT"
  /** Not a format that is read here. */
  | "VECTOR_FORMAT_UNKNOWN"
  /** A pickle, or a container of pickles: reading one runs code that came with it. */
  | "VECTOR_PICKLE_REFUSED"
  /** The file says that another program wrote it than the one that was named. */
  | "VECTOR_PRODUCER_MISMATCH"
  /** A layer that the readers of the format cannot be told of. */
  | "VECTOR_LAYER_UNWRITABLE"
  /** Readable, but not the one spelling that the digest is taken over. */
  | "VECTOR_NOT_CANONICAL";

/** Why a score could not be computed. */
export type ScoreReason =
  | "LOGITS_INVALID"
  | "SHAPE_MISMATCH"
  | "REPLY_EMPTY"
  | "SCORE_INPUT_INVALID"
  | "BASELINE_INVALID";

export type SteeringReason = CompositionReason | AlphaReason | ExtractionReason | VectorFormatReason | ScoreReason;

/** Numbers and names behind an error, for logs and `ErrorInfo` metadata. Never text of a prompt. */
export type ErrorDetails = Readonly<Record<string, string | number>>;

/** The one error of this package: a stable reason, what is wrong, and what would be right. */
export class SteeringError extends Error {
  override readonly name = "SteeringError";
  readonly reason: SteeringReason;
  readonly details: ErrorDetails;

  constructor(reason: SteeringReason, message: string, details: ErrorDetails = {}) {
    super(message);
    this.reason = reason;
    this.details = details;
  }
}
