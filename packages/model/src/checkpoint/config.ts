import { z } from "zod";
import { CheckpointError } from "../errors.ts";
import type { DecoderSpec, RopeSpec } from "../graph/decoder-spec.ts";
import type { SourceLayout } from "../graph/weights-plan.ts";
import {
  ARCHITECTURES,
  type Architecture,
  type CommonConfig,
  HARMLESS_FIELDS,
  RELATIVES,
  tokenIds,
} from "./architectures/index.ts";
import { invalid, parseFields, unknownField, unsupported } from "./refusals.ts";

const generationSchema = z.object({ bos_token_id: tokenIds.optional(), eos_token_id: tokenIds.optional() });

/** What config.json and generation_config.json say about a model. */
export interface CheckpointConfig {
  readonly spec: DecoderSpec;
  readonly source: SourceLayout;
  /** Token that starts a sequence, if the model has one. */
  readonly bosTokenId: number | undefined;
  /** Tokens that end a reply, ascending. */
  readonly eosTokenIds: readonly number[];
}

export interface ConfigOptions {
  /**
   * Positions the model is imported for, at most those it has.
   *
   * Where LongRoPE has factors for short and for long contexts, those for this length are taken, once: keys in the cache
   * cannot change their rotation when a sequence grows.
   *
   * @default all that the model has
   */
  readonly contextTokens?: number;
}

/** Values of `model_type` that can be imported. */
export const SUPPORTED_MODEL_TYPES: readonly string[] = [...ARCHITECTURES.keys()];

/**
 * Read config.json as a decoder that can be built, or say which field stops it.
 *
 * @param config - config.json
 * @param generation - generation_config.json, if there is one; its token ids win, as in transformers
 * @throws CheckpointError CHECKPOINT_UNSUPPORTED naming the field and what is supported, CHECKPOINT_CONFIG_INVALID when
 *   numbers are out of range or contradict each other
 */
export function parseConfig(
  config: Record<string, unknown>,
  generation?: Record<string, unknown>,
  options: ConfigOptions = {},
): CheckpointConfig {
  const family = findFamily(config["model_type"]);
  const parsed = parseFields(family.schema, config, "config.json");
  refuseUnknownFields(family, config);
  refuseOtherClasses(family, parsed);
  const contextTokens = chooseContext(parsed.max_position_embeddings, options.contextTokens);
  const parts = family.decoder(parsed as never, contextTokens);
  const { kvHeads, headDim } = parts;
  const heads = parsed.num_attention_heads;
  if (heads % kvHeads !== 0) {
    throw invalid(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
  }
  if (headDim % 8 !== 0) throw unsupported("head_dim", headDim, "multiples of 8");
  return {
    spec: {
      architecture: family.modelType,
      layers: parsed.num_hidden_layers,
      hidden: parsed.hidden_size,
      heads,
      kvHeads,
      headDim,
      intermediate: parsed.intermediate_size,
      vocabulary: parsed.vocab_size,
      contextTokens,
      normEps: parsed.rms_norm_eps,
      normPlusOne: parts.normPlusOne ?? false,
      sandwichNorms: parts.sandwichNorms ?? false,
      embeddingScale: parts.embeddingScale ?? 1,
      tiedEmbeddings: parts.tiedEmbeddings,
      logitSoftCap: parts.logitSoftCap ?? null,
      activation: parts.activation ?? "silu",
      mlpBias: parts.mlpBias ?? false,
      attention: {
        scale: headDim ** -0.5,
        qkvBias: false,
        outBias: false,
        queryKeyNorm: false,
        softCap: null,
        ...parts.attention,
      },
      ...settleLayers(parts, parsed.max_position_embeddings),
    },
    source: family.source,
    ...readTokenIds(parsed, generation),
  };
}

function findFamily(modelType: unknown): Architecture {
  const family = typeof modelType === "string" ? ARCHITECTURES.get(modelType) : undefined;
  if (family !== undefined) return family;
  const relative = typeof modelType === "string" ? RELATIVES.get(modelType) : undefined;
  const supported = SUPPORTED_MODEL_TYPES.join(", ");
  throw unsupported("model_type", modelType, relative === undefined ? supported : `${supported} (it is ${relative})`);
}

function refuseUnknownFields({ schema, harmless }: Architecture, config: Record<string, unknown>): void {
  for (const field of Object.keys(config)) {
    if (Object.hasOwn(schema.shape, field) || HARMLESS_FIELDS.has(field) || harmless.includes(field)) continue;
    throw unknownField("config.json", field, Object.keys(schema.shape));
  }
}

/**
 * Only the family's language model is built, and only as its own classes compute it.
 *
 * `auto_map` points to Python code in the checkpoint. Families that were published before transformers had them (Phi-3)
 * still carry theirs; under the class names of transformers it stands for the same computation, and transformers itself
 * prefers its own class unless told to trust the other. Any other name may compute anything.
 */
function refuseOtherClasses({ className }: Architecture, { architectures, auto_map }: CommonConfig): void {
  const expected = `${className}ForCausalLM`;
  if (architectures != null && !architectures.every((name) => name === expected)) {
    throw unsupported("architectures", architectures, expected);
  }
  const own = new RegExp(`(^|[.])${className}(Text)?(Config|Model|For[A-Za-z]+)$`);
  for (const [role, target] of Object.entries(auto_map ?? {})) {
    // Text is read by tokenizer.json alone.
    if (role === "AutoTokenizer") continue;
    if (typeof target !== "string" || !own.test(target)) {
      throw unsupported(`auto_map.${role}`, target, `classes of transformers (${expected})`);
    }
  }
}

function chooseContext(ofModel: number, asked: number | undefined): number {
  if (asked === undefined) return ofModel;
  if (!Number.isSafeInteger(asked) || asked < 1 || asked > ofModel) {
    throw new CheckpointError(
      "CHECKPOINT_UNSUPPORTED",
      `a context of ${asked} tokens was asked for; "max_position_embeddings" allows 1 to ${ofModel}`,
    );
  }
  return asked;
}

/**
 * Layers by what has an effect: rotary embeddings each once, in the order of their first use, and windows only where they
 * are narrower than the model's context.
 */
function settleLayers(
  parts: Pick<DecoderSpec, "ropes" | "layerKinds">,
  modelContext: number,
): Pick<DecoderSpec, "ropes" | "layerKinds"> {
  const ropes: RopeSpec[] = [];
  const indexOf = (rope: number) => {
    const used = parts.ropes[rope] as RopeSpec;
    const same = ropes.findIndex((one) => JSON.stringify(one) === JSON.stringify(used));
    return same === -1 ? ropes.push(used) - 1 : same;
  };
  const layerKinds = parts.layerKinds.map(({ window, rope }) => ({
    window: window !== null && window < modelContext ? window : null,
    rope: rope === null ? null : indexOf(rope),
  }));
  return { ropes, layerKinds };
}

function readTokenIds(
  config: CommonConfig,
  generation: Record<string, unknown> | undefined,
): Pick<CheckpointConfig, "bosTokenId" | "eosTokenIds"> {
  const ids = generation === undefined ? {} : parseFields(generationSchema, generation, "generation_config.json");
  const bos = [ids.bos_token_id ?? config.bos_token_id ?? []].flat();
  const eos = [ids.eos_token_id ?? config.eos_token_id ?? []].flat();
  for (const id of [...bos, ...eos]) {
    if (id >= config.vocab_size) throw invalid(`token id ${id} is outside the vocabulary of ${config.vocab_size}`);
  }
  return { bosTokenId: bos[0], eosTokenIds: [...new Set(eos)].sort((a, b) => a - b) };
}
