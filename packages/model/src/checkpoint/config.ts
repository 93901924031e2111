import { z } from "zod";
import { CheckpointError } from "../errors.ts";
import type { DecoderSpec } from "../graph/decoder-spec.ts";
import type { SourceLayout } from "../graph/weights-plan.ts";

/**
 * Fields of config.json that leave the computation of the served model alone: training, bookkeeping, how Python code
 * returns things. Anything that is neither here nor understood below is refused, since it might change what is computed.
 */
const HARMLESS_FIELDS: ReadonlySet<string> = new Set([
  "_attn_implementation_autoset",
  "_name_or_path",
  "architectures",
  "attention_dropout",
  "chunk_size_feed_forward",
  "dtype",
  "finetuning_task",
  "id2label",
  "initializer_range",
  "label2id",
  "output_attentions",
  "output_hidden_states",
  "pad_token_id",
  "prefix",
  "problem_type",
  "return_dict",
  "task_specific_params",
  "tokenizer_class",
  "torch_dtype",
  "torchscript",
  "transformers_version",
  "use_bfloat16",
  "use_cache",
]);

const tokenIds = z.union([z.int().min(0), z.array(z.int().min(0)).min(1).max(64)]).nullish();
const positive = (max: number) => z.int().min(1).max(max);

/** A field that is understood only at the value that leaves it without effect. */
const only = (value: false | 1 | null) => z.literal(value).nullish();

/** Rotary settings: transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters`. */
const ropeSchema = z
  .strictObject({
    rope_type: z.literal("default").optional(),
    type: z.literal("default").optional(),
    rope_theta: z.number().positive().max(1e12).optional(),
    partial_rotary_factor: only(1),
  })
  .nullish();

const llamaSchema = z.object({
  model_type: z.literal("llama"),
  hidden_size: positive(65_536),
  intermediate_size: positive(262_144),
  num_hidden_layers: positive(1024),
  num_attention_heads: positive(1024),
  num_key_value_heads: positive(1024).nullish(),
  head_dim: positive(512).nullish(),
  vocab_size: positive(2_097_152),
  // With head_dim it bounds the rotary tables, which are computed in memory.
  max_position_embeddings: positive(1_048_576),
  rms_norm_eps: z.number().positive().max(1),
  rope_theta: z.number().positive().max(1e12).nullish(),
  rope_scaling: ropeSchema,
  rope_parameters: ropeSchema,
  hidden_act: z.literal("silu"),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: only(false),
  mlp_bias: only(false),
  // Above 1 it sums each projection in slices, with other rounding.
  pretraining_tp: only(1),
  partial_rotary_factor: only(1),
  sliding_window: only(null),
  quantization_config: only(null),
  is_encoder_decoder: only(false),
  add_cross_attention: only(false),
  auto_map: only(null),
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
});

const generationSchema = z.object({ bos_token_id: tokenIds, eos_token_id: tokenIds });

/** What config.json and generation_config.json say about a model. */
export interface CheckpointConfig {
  readonly spec: DecoderSpec;
  readonly source: SourceLayout;
  /** Token that starts a sequence, if the model has one. */
  readonly bosTokenId: number | undefined;
  /** Tokens that end a reply, ascending. */
  readonly eosTokenIds: readonly number[];
}

/** Values of `model_type` that can be imported. */
export const SUPPORTED_MODEL_TYPES: readonly string[] = ["llama"];

/**
 * Read config.json as a decoder that can be built, or say which field stops it.
 *
 * @param config - config.json
 * @param generation - generation_config.json, if there is one; its token ids win, as in transformers
 * @throws CheckpointError CHECKPOINT_UNSUPPORTED naming the field and what is supported, CHECKPOINT_CONFIG_INVALID when
 *   numbers contradict each other
 */
export function parseConfig(config: Record<string, unknown>, generation?: Record<string, unknown>): CheckpointConfig {
  if (!SUPPORTED_MODEL_TYPES.includes(config["model_type"] as string)) {
    throw unsupported("model_type", config["model_type"], SUPPORTED_MODEL_TYPES.join(", "));
  }
  const parsed = parseFields(llamaSchema, config, "config.json");
  for (const field of Object.keys(config)) {
    if (!Object.hasOwn(llamaSchema.shape, field) && !HARMLESS_FIELDS.has(field)) {
      throw new CheckpointError(
        "CHECKPOINT_UNSUPPORTED",
        `config.json: "${field}" is not known and may change what the model computes; ` +
          `understood for llama: ${Object.keys(llamaSchema.shape).join(", ")}`,
      );
    }
  }

  const heads = parsed.num_attention_heads;
  const kvHeads = parsed.num_key_value_heads ?? heads;
  const headDim = parsed.head_dim ?? parsed.hidden_size / heads;
  if (!Number.isInteger(headDim)) {
    throw invalid(`hidden_size ${parsed.hidden_size} is not a multiple of num_attention_heads ${heads}`);
  }
  if (heads % kvHeads !== 0) {
    throw invalid(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
  }
  if (headDim % 16 !== 0) throw unsupported("head_dim", headDim, "multiples of 16");

  const ids = generation === undefined ? {} : parseFields(generationSchema, generation, "generation_config.json");
  const bos = [ids.bos_token_id ?? parsed.bos_token_id ?? []].flat();
  const eos = [ids.eos_token_id ?? parsed.eos_token_id ?? []].flat();
  for (const id of [...bos, ...eos]) {
    if (id >= parsed.vocab_size) throw invalid(`token id ${id} is outside the vocabulary of ${parsed.vocab_size}`);
  }
  return {
    spec: {
      architecture: "llama",
      layers: parsed.num_hidden_layers,
      hidden: parsed.hidden_size,
      heads,
      kvHeads,
      headDim,
      intermediate: parsed.intermediate_size,
      vocabulary: parsed.vocab_size,
      contextTokens: parsed.max_position_embeddings,
      normEps: parsed.rms_norm_eps,
      normPlusOne: false,
      sandwichNorms: false,
      embeddingScale: 1,
      tiedEmbeddings: parsed.tie_word_embeddings ?? false,
      logitSoftCap: null,
      activation: "silu",
      mlpBias: false,
      attention: { scale: headDim ** -0.5, qkvBias: false, outBias: false, queryKeyNorm: false, softCap: null },
      ropes: [{ theta: ropeTheta(parsed), rotaryDim: headDim, scaling: { kind: "none" } }],
      layerKinds: Array.from({ length: parsed.num_hidden_layers }, () => ({ window: null, rope: 0 })),
    },
    source: { fusedProjections: false },
    bosTokenId: bos[0],
    eosTokenIds: [...new Set(eos)].sort((a, b) => a - b),
  };
}

/** The rotary base, wherever it is written; 10000 is the default of the Llama config. */
function ropeTheta(config: z.infer<typeof llamaSchema>): number {
  const written = [config.rope_parameters?.rope_theta, config.rope_scaling?.rope_theta, config.rope_theta];
  const values = new Set(written.filter((value) => value != null));
  if (values.size > 1) throw invalid(`rope_theta is given as ${[...values].join(" and as ")}`);
  const [value] = values;
  return value ?? 10_000;
}

function parseFields<T extends z.ZodObject>(schema: T, value: Record<string, unknown>, file: string): z.infer<T> {
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  if (issue === undefined) throw new Error("a failed parse has an issue");
  const field = issue.path.join(".");
  if (issue.code === "unrecognized_keys") {
    throw new CheckpointError(
      "CHECKPOINT_UNSUPPORTED",
      `${file}: "${field}.${issue.keys[0]}" is not known and may change what the model computes`,
    );
  }
  if (issue.code === "invalid_value" && issue.input !== undefined) {
    throw unsupported(field, issue.input, issue.values.map((value) => JSON.stringify(value)).join(", "));
  }
  throw new CheckpointError(
    "CHECKPOINT_CONFIG_INVALID",
    `${file}: "${field}" is ${brief(issue.input)}: ${issue.message}`,
  );
}

function unsupported(field: string, value: unknown, supported: string): CheckpointError {
  return new CheckpointError(
    "CHECKPOINT_UNSUPPORTED",
    `config.json: "${field}" is ${brief(value)}; supported: ${supported}`,
  );
}

function invalid(what: string): CheckpointError {
  return new CheckpointError("CHECKPOINT_CONFIG_INVALID", `config.json: ${what}`);
}

/** A value for a message, whatever its size. */
function brief(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
