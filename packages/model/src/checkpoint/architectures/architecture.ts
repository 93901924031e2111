import { z } from "zod";
import type { AttentionSpec, DecoderSpec } from "../../graph/decoder-spec.ts";
import type { SourceLayout } from "../../graph/weights-plan.ts";
import { COMMON_FIELDS } from "./fields.ts";

/**
 * A family of checkpoints, by the `model_type` of its config.json: which fields it understands and what decoder they
 * describe. To add one, write a file beside this one and list it in `index.ts`.
 */
export interface Architecture {
  readonly modelType: string;
  /** How transformers begins the names of the family's classes. */
  readonly className: string;
  /** Fields that are understood, with the defaults that transformers gives absent ones. */
  readonly schema: z.ZodObject<z.ZodRawShape, z.core.$strip> & z.ZodType<CommonConfig>;
  /** Fields of this family, beyond those of all, that transformers does not read. */
  readonly harmless: readonly string[];
  readonly source: SourceLayout;
  /**
   * @param config - what `schema` made of config.json
   * @param contextTokens - positions the model is imported for
   */
  readonly decoder: (config: never, contextTokens: number) => DecoderParts;
}

/** What every family's config has. */
export type CommonConfig = z.infer<z.ZodObject<typeof COMMON_FIELDS>> & {
  readonly bos_token_id?: TokenIds;
  readonly eos_token_id?: TokenIds;
};

export type TokenIds = number | number[] | null | undefined;

interface TokenFields {
  readonly bos_token_id: z.ZodType<TokenIds>;
  readonly eos_token_id: z.ZodType<TokenIds>;
}

/** What a family decides, beyond the sizes that all read alike; left out, it is as in Llama. */
export interface DecoderParts
  extends Pick<DecoderSpec, "kvHeads" | "headDim" | "tiedEmbeddings" | "ropes" | "layerKinds">,
    Partial<
      Pick<DecoderSpec, "normPlusOne" | "sandwichNorms" | "embeddingScale" | "logitSoftCap" | "activation" | "mlpBias">
    > {
  readonly attention?: Partial<AttentionSpec>;
}

/** Describe a family; its config is the common fields and `fields`. */
export function defineArchitecture<Fields extends TokenFields & z.ZodRawShape>(family: {
  readonly modelType: string;
  readonly className: string;
  readonly fields: Fields;
  readonly harmless?: readonly string[];
  readonly source?: SourceLayout;
  readonly decoder: (
    config: z.infer<z.ZodObject<typeof COMMON_FIELDS & Fields>>,
    contextTokens: number,
  ) => DecoderParts;
}): Architecture {
  return {
    modelType: family.modelType,
    className: family.className,
    schema: z.object({ ...COMMON_FIELDS, ...family.fields }) as unknown as Architecture["schema"],
    harmless: family.harmless ?? [],
    source: family.source ?? { fusedProjections: false },
    decoder: family.decoder,
  };
}
