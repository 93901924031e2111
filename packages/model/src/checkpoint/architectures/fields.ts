import { z } from "zod";

/**
 * Largest context that is read: a bound against nonsense, sixteen times what the longest models claim. What is allocated
 * follows from the context that is served.
 */
const MAX_CONTEXT = 16_777_216;

const size = (max: number) => z.int().min(1).max(max);

export const headCount = size(1024);
export const headSize = size(512);
export const contextSize = size(MAX_CONTEXT);
/** Window of sliding attention, in positions with the query's own. */
export const windowSize = size(MAX_CONTEXT);
export const tokenIds = z.union([z.int().min(0), z.array(z.int().min(0)).min(1).max(64)]).nullable();
export const softCap = z.number().positive().max(1e6).nullable();
export const flag = z.boolean();
/** A nested object, read later, when its kind is known. */
export const anObject = z.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "expected an object",
);

/** A field that is understood only at the value that leaves it without effect, or absent. */
export const only = (value: boolean | number | null) => z.literal(value).nullish();

/** Fields that every decoder has, with the same meaning and no default. */
export const COMMON_FIELDS = {
  model_type: z.string(),
  hidden_size: size(65_536),
  intermediate_size: size(262_144),
  num_hidden_layers: size(1024),
  num_attention_heads: headCount,
  vocab_size: size(2_097_152),
  max_position_embeddings: contextSize,
  rms_norm_eps: z.number().positive().max(1),
  architectures: z.array(z.string()).max(16).nullish(),
  auto_map: anObject.nullish(),
  quantization_config: only(null),
  is_encoder_decoder: only(false),
  add_cross_attention: only(false),
  use_bidirectional_attention: only(false),
  pruned_heads: z.strictObject({}).nullish(),
} as const;

/** Rotary settings as transformers 4 writes them (`rope_theta`, `rope_scaling`) and transformers 5 (`rope_parameters`). */
export const ROPE_FIELDS = {
  rope_theta: z.number().gt(1).max(1e12).nullish(),
  rope_scaling: anObject.nullish(),
  rope_parameters: anObject.nullish(),
  partial_rotary_factor: only(1),
} as const;

/**
 * Fields of config.json that leave the computation of the served model alone: training, bookkeeping, how Python code
 * computes or returns things, how text is sampled. Anything that is neither here nor understood is refused, since it might
 * change what is computed.
 */
export const HARMLESS_FIELDS: ReadonlySet<string> = new Set([
  "_attn_implementation",
  "_attn_implementation_autoset",
  "_commit_hash",
  "_flash_attn_2_enabled",
  "_name_or_path",
  "attention_dropout",
  "attn_implementation",
  "cache_implementation",
  "chunk_size_feed_forward",
  "dtype",
  "finetuning_task",
  "gradient_checkpointing",
  "id2label",
  "is_decoder",
  "initializer_range",
  "label2id",
  "output_attentions",
  "output_hidden_states",
  "output_scores",
  "pad_token_id",
  "prefix",
  "problem_type",
  "return_dict",
  "return_dict_in_generate",
  "sep_token_id",
  "task_specific_params",
  "tf_legacy_loss",
  "tokenizer_class",
  "torch_dtype",
  "torchscript",
  "transformers.js_config",
  "transformers_version",
  "unsloth_fixed",
  "unsloth_version",
  "use_bfloat16",
  "use_cache",
  // Splits each projection into slices whose results are added up: the same sums. Recent transformers ignore it.
  "pretraining_tp",
  // Parts of other kinds of model, which old versions wrote for all.
  "cross_attention_hidden_size",
  "decoder_start_token_id",
  "tie_encoder_decoder",
  // Sampling settings of old checkpoints. A caller of the served model chooses these.
  "bad_words_ids",
  "begin_suppress_tokens",
  "diversity_penalty",
  "do_sample",
  "early_stopping",
  "encoder_no_repeat_ngram_size",
  "exponential_decay_length_penalty",
  "forced_bos_token_id",
  "forced_eos_token_id",
  "length_penalty",
  "max_length",
  "max_new_tokens",
  "min_length",
  "no_repeat_ngram_size",
  "num_beam_groups",
  "num_beams",
  "num_return_sequences",
  "remove_invalid_values",
  "repetition_penalty",
  "suppress_tokens",
  "temperature",
  "top_k",
  "top_p",
  "typical_p",
]);
