import { z } from "zod";
import type { RopeScaling } from "../../graph/decoder-spec.ts";
import { invalid } from "../refusals.ts";
import { agreed } from "./agreed.ts";
import { contextSize } from "./fields.ts";

/** What a scaling depends on beyond its own settings. */
export interface ScalingContext {
  /** Where the settings are, for messages. */
  readonly field: string;
  readonly rotaryDim: number;
  /** Context before stretching, where the family writes it outside of the settings. */
  readonly originalContext?: number | undefined;
  /** `max_position_embeddings`. */
  readonly modelContext: number;
  /** Context the model is imported for. */
  readonly contextTokens: number;
}

/** A kind of scaling: the settings it understands, any other key stops the import, and what they mean. */
export interface Scaling {
  readonly schema: z.ZodType<CommonSettings>;
  readonly read: (settings: never, context: ScalingContext) => RopeScaling;
}

const COMMON = {
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: z.number().gt(1).max(1e12).nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
};
export type CommonSettings = z.infer<z.ZodObject<typeof COMMON>>;

const stretch = z.number().positive().max(1e6);
const orZero = z.number().min(0).max(1e6);
const perFrequency = z.array(stretch).min(1).max(256);
const originalContext = contextSize.min(2).nullish();

export const SCALINGS = {
  default: define({}, () => ({ kind: "none" })),

  linear: define({ factor: stretch }, ({ factor }) => ({ kind: "linear", factor })),

  llama3: define(
    {
      factor: stretch,
      low_freq_factor: stretch,
      high_freq_factor: stretch,
      original_max_position_embeddings: originalContext,
    },
    ({ factor, low_freq_factor, high_freq_factor, original_max_position_embeddings }, context) => {
      if (high_freq_factor <= low_freq_factor) {
        throw invalid(`"${context.field}.high_freq_factor" is not over "${context.field}.low_freq_factor"`);
      }
      return {
        kind: "llama3",
        factor,
        lowFreqFactor: low_freq_factor,
        highFreqFactor: high_freq_factor,
        originalContext: readOriginalContext(original_max_position_embeddings, context),
      };
    },
  ),

  yarn: define(
    {
      factor: stretch.nullable(),
      original_max_position_embeddings: originalContext,
      attention_factor: stretch.nullish(),
      // Zero stands for absent in these four, as transformers reads them.
      beta_fast: orZero.nullish(),
      beta_slow: orZero.nullish(),
      mscale: orZero.nullish(),
      mscale_all_dim: orZero.nullish(),
      truncate: z.boolean().default(true),
    },
    (settings, context) => {
      const original = readOriginalContext(settings.original_max_position_embeddings, context);
      const factor = settings.factor ?? context.modelContext / original;
      const { mscale, mscale_all_dim } = settings;
      const [betaFast, betaSlow] = [settings.beta_fast || 32, settings.beta_slow || 1];
      if (betaFast < betaSlow) throw invalid(`"${context.field}.beta_fast" is under "${context.field}.beta_slow"`);
      const byWeight = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
      return {
        kind: "yarn",
        factor,
        originalContext: original,
        betaFast,
        betaSlow,
        truncate: settings.truncate,
        // The two weights, DeepSeek's, count only together.
        attentionFactor:
          settings.attention_factor ??
          (mscale && mscale_all_dim ? byWeight(mscale) / byWeight(mscale_all_dim) : byWeight(1)),
      };
    },
  ),

  longrope: define(
    {
      short_factor: perFrequency,
      long_factor: perFrequency,
      factor: stretch.nullish(),
      attention_factor: stretch.nullish(),
      original_max_position_embeddings: originalContext,
    },
    (settings, context) => {
      for (const name of ["short_factor", "long_factor"] as const) {
        if (settings[name].length !== context.rotaryDim / 2) {
          throw invalid(
            `"${context.field}.${name}" has ${settings[name].length} factors for ${context.rotaryDim / 2} frequencies`,
          );
        }
      }
      const original = readOriginalContext(settings.original_max_position_embeddings, context);
      const factor = settings.factor ?? context.modelContext / original;
      return {
        kind: "longrope",
        factors: context.contextTokens > original ? settings.long_factor : settings.short_factor,
        attentionFactor:
          settings.attention_factor ?? (factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original))),
      };
    },
  ),
} as const;

export type ScalingKind = keyof typeof SCALINGS;

function define<Fields extends z.ZodRawShape>(
  fields: Fields,
  read: (settings: z.infer<z.ZodObject<Fields>>, context: ScalingContext) => RopeScaling,
): Scaling {
  return { schema: z.strictObject({ ...COMMON, ...fields }) as unknown as Scaling["schema"], read };
}

function readOriginalContext(inner: number | null | undefined, context: ScalingContext): number {
  return agreed("original_max_position_embeddings", [inner, context.originalContext]) ?? context.modelContext;
}
