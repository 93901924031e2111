/** Why a checkpoint was refused. Stable: callers and documents may match on them. */
export type CheckpointReason =
  /** The directory, or a file it must have, is not there. */
  | "CHECKPOINT_NOT_FOUND"
  /** A file leads out of the checkpoint directory. */
  | "CHECKPOINT_UNSAFE_PATH"
  /** config.json or a file beside it is not what its format says. */
  | "CHECKPOINT_CONFIG_INVALID"
  /** Well-formed, but asks for a computation that is not built. */
  | "CHECKPOINT_UNSUPPORTED"
  /** The weights file breaks its format: truncated, overlapping, out of range. */
  | "CHECKPOINT_CORRUPT"
  /** The tensors are not those the config describes. */
  | "CHECKPOINT_TENSOR_MISMATCH"
  /** A weight is NaN or infinite. */
  | "CHECKPOINT_NOT_FINITE"
  /** The tokenizer does not load, or does not fit the model. */
  | "CHECKPOINT_TOKENIZER_INVALID";

/** Why a model package was refused. */
export type ModelPackageReason =
  | "MODEL_PACKAGE_NOT_FOUND"
  /** Contents and manifest disagree. */
  | "MODEL_PACKAGE_CORRUPT"
  /** Written in a format version that is not read here. */
  | "MODEL_PACKAGE_VERSION_UNSUPPORTED"
  /** The output directory holds something else, and `overwrite` was not asked for. */
  | "MODEL_PACKAGE_EXISTS"
  /** The disk has no room for it. */
  | "MODEL_PACKAGE_NO_SPACE"
  /** Not removed: its directory also holds files that are not the package's. */
  | "MODEL_PACKAGE_HAS_OTHER_FILES"
  /** Not removed: a running process has it open. */
  | "MODEL_PACKAGE_IN_USE";

/** Why text could not be turned into tokens or back. */
export type TokenizerReason =
  /** tokenizer.json or tokenizer_config.json is malformed or uses something that is not supported. */
  | "TOKENIZER_INVALID"
  /** The text is longer than any context can hold. */
  | "TEXT_TOO_LONG"
  /** A token id is not in the vocabulary. */
  | "TOKEN_OUT_OF_RANGE"
  /** The text cannot be encoded without producing a control token; it is refused rather than let through. */
  | "CONTROL_TOKEN_IN_TEXT"
  /** The model has no chat template. */
  | "CHAT_TEMPLATE_MISSING"
  /** The chat template does not parse. */
  | "CHAT_TEMPLATE_INVALID"
  /** The chat template refused these messages, or failed on them. */
  | "CHAT_TEMPLATE_FAILED"
  /** The chat template ran longer or wrote more than it may. */
  | "CHAT_TEMPLATE_LIMIT"
  /** The messages are malformed: role, content, number. */
  | "CHAT_MESSAGES_INVALID";

/** Base of every error this package raises on bad input; `reason` is stable, the message is for people. */
export abstract class ModelError<Reason extends string = string> extends Error {
  readonly reason: Reason;

  constructor(reason: Reason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
    this.name = new.target.name;
  }
}

/** A Hugging Face checkpoint cannot be imported. */
export class CheckpointError extends ModelError<CheckpointReason> {}

/** A model package cannot be used or written. */
export class ModelPackageError extends ModelError<ModelPackageReason> {}

/** Text, tokens or chat messages cannot be converted. */
export class TokenizerError extends ModelError<TokenizerReason> {}
