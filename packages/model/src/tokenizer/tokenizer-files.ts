import { z } from "zod";
import { parseStrictJson } from "../checkpoint/strict-json.ts";
import { TokenizerError } from "../errors.ts";
import { MAX_TOKEN_ID } from "./subword-model.ts";

/** The parts of tokenizer.json; each is read where it is used. `truncation` and `padding` are for batches: not used. */
const tokenizerSchema = z.looseObject({
  added_tokens: z
    .array(
      z.looseObject({
        id: z.int().min(0).max(MAX_TOKEN_ID),
        content: z.string().min(1).max(1024),
        special: z.boolean().default(false),
        normalized: z.boolean().default(false),
        lstrip: z.boolean().default(false),
        rstrip: z.boolean().default(false),
        single_word: z.boolean().default(false),
      }),
    )
    .default([]),
  normalizer: z.unknown(),
  pre_tokenizer: z.unknown(),
  post_processor: z.unknown(),
  decoder: z.unknown(),
  model: z.unknown(),
});

/** A token written out, or as the object that older tools save. */
const tokenText = z.union([z.string(), z.looseObject({ content: z.string() }).transform(({ content }) => content)]);

const NAMED_TOKENS = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const templateSchema = z.union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))]);

export interface TokenizerFiles {
  readonly tokenizer: z.infer<typeof tokenizerSchema>;
  readonly config: Record<string, unknown>;
  /** `bos_token`, `eos_token`, … → their text, those that are set. */
  readonly namedTokens: Readonly<Record<string, string>>;
  /** Further tokens that the config calls special. */
  readonly additionalTokens: readonly string[];
  /** `add_bos_token` and `add_eos_token`, when the config has either: they then decide, not the post-processor. */
  readonly surroundings: { readonly bos: boolean; readonly eos: boolean } | undefined;
}

/**
 * @throws TokenizerError TOKENIZER_INVALID naming the file and field
 */
export function parseTokenizerFiles(tokenizerJson: string, configJson: string): TokenizerFiles {
  const tokenizer = tokenizerSchema.safeParse(parse("tokenizer.json", tokenizerJson));
  if (!tokenizer.success) {
    const issue = tokenizer.error.issues[0];
    throw invalid("tokenizer.json", `field "${issue?.path.join(".")}": ${issue?.message}`);
  }
  const config = parseTokenizerConfig(configJson);
  const namedTokens: Record<string, string> = {};
  for (const name of NAMED_TOKENS) {
    const token = tokenText.nullish().safeParse(config[name]);
    if (!token.success) throw invalid("tokenizer_config.json", `field "${name}" is not a token`);
    if (token.data != null) namedTokens[name] = token.data;
  }
  const additional = ["additional_special_tokens", "extra_special_tokens"].flatMap((field) => {
    const value = config[field];
    const list = Array.isArray(value) ? value : typeof value === "object" && value !== null ? Object.values(value) : [];
    const tokens = z.array(tokenText).safeParse(list);
    if (!tokens.success) throw invalid("tokenizer_config.json", `field "${field}" is not a list of tokens`);
    return tokens.data;
  });
  return {
    tokenizer: tokenizer.data,
    config,
    namedTokens,
    additionalTokens: additional,
    surroundings: surroundings(config),
  };
}

function surroundings(config: Record<string, unknown>): TokenizerFiles["surroundings"] {
  const { add_bos_token: bos = null, add_eos_token: eos = null } = config;
  for (const value of [bos, eos]) {
    if (value !== null && typeof value !== "boolean") {
      throw invalid(
        "tokenizer_config.json",
        `field "${value === bos ? "add_bos_token" : "add_eos_token"}" is not a boolean`,
      );
    }
  }
  return bos === null && eos === null ? undefined : { bos: bos === true, eos: eos === true };
}

/** @throws TokenizerError TOKENIZER_INVALID */
export function parseTokenizerConfig(configJson: string): Record<string, unknown> {
  const config = parse("tokenizer_config.json", configJson);
  if (typeof config !== "object" || config === null || Array.isArray(config)) {
    throw invalid("tokenizer_config.json", "is not a JSON object");
  }
  return config as Record<string, unknown>;
}

/**
 * The chat template in tokenizer_config.json: one text, or several by name of which `default` is meant.
 *
 * @throws TokenizerError TOKENIZER_INVALID
 */
export function chatTemplateOf(config: Record<string, unknown>): string | undefined {
  const template = templateSchema.nullish().safeParse(config["chat_template"]);
  if (!template.success) throw invalid("tokenizer_config.json", `field "chat_template" is not a template`);
  if (!Array.isArray(template.data)) return template.data ?? undefined;
  return template.data.find(({ name }) => name === "default")?.template;
}

function parse(file: string, text: string): unknown {
  try {
    return parseStrictJson(text);
  } catch (error) {
    throw invalid(file, `is not valid JSON: ${(error as Error).message}`, error);
  }
}

function invalid(file: string, what: string, cause?: unknown): TokenizerError {
  return new TokenizerError("TOKENIZER_INVALID", `"${file}" ${what}`, { cause });
}
