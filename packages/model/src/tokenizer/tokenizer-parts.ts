import { z } from "zod";
import { TokenizerError } from "../errors.ts";

/**
 * Which parts of tokenizer.json are taken, and in which form the tokenizer library computes them like the reference.
 *
 * The library passes over settings that it does not know, and would give other ids without a word. So every part is on a
 * list, and what is not is refused.
 */

const partSchema = z.looseObject({ type: z.string() });
type Part = z.infer<typeof partSchema>;

/** Highest token id; the largest vocabularies have about 260,000 tokens. */
export const MAX_TOKEN_ID = 4_194_304;

const NORMALIZERS = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Prepend", "Replace", "Strip", "Precompiled"];
const PRE_TOKENIZERS = ["ByteLevel", "Digits", "Metaspace", "Split", "WhitespaceSplit"];
const POST_PROCESSORS = ["ByteLevel", "TemplateProcessing"];
/** GPT-2's word rule, which a `ByteLevel` pre-tokenizer applies unless it is told not to. */
const BYTE_LEVEL_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const SPLIT_BEHAVIORS = ["isolated", "removed"];

const modelSchema = z.looseObject({
  // Absent in files of old versions, where the other fields tell.
  type: z.enum(["BPE", "Unigram"]),
  dropout: z.literal(0).nullish(),
  continuing_subword_prefix: z.literal("").nullish(),
  end_of_word_suffix: z.literal("").nullish(),
});

/**
 * @param tokenizer - parsed tokenizer.json
 * @returns the same for the library to load
 * @throws TokenizerError TOKENIZER_INVALID naming the part that is not supported
 */
export function libraryForm<T extends Record<string, unknown>>(tokenizer: T): T {
  const model = modelSchema.safeParse(tokenizer["model"]);
  if (!model.success) {
    const issue = model.error.issues[0];
    throw new TokenizerError("TOKENIZER_INVALID", `tokenizer.json: model.${issue?.path.join(".")}: ${issue?.message}`);
  }
  checkVocabulary(tokenizer["model"] as Record<string, unknown>);
  checkParts("normalizer", tokenizer["normalizer"], "normalizers", NORMALIZERS);
  checkParts("post_processor", tokenizer["post_processor"], "processors", POST_PROCESSORS);
  checkParts("pre_tokenizer", tokenizer["pre_tokenizer"], "pretokenizers", PRE_TOKENIZERS);
  return { ...tokenizer, pre_tokenizer: preTokenizer(tokenizer["pre_tokenizer"]) };
}

/**
 * The library makes a table as long as the highest id, so ids are bounded before it sees them. Checked by hand: a schema
 * takes seconds for a vocabulary of 200,000.
 */
function checkVocabulary({ type, vocab, merges }: Record<string, unknown>): void {
  const invalid = (what: string) => new TokenizerError("TOKENIZER_INVALID", `tokenizer.json: model.${what}`);
  if (type === "Unigram") {
    const isEntry = (entry: unknown) =>
      Array.isArray(entry) && typeof entry[0] === "string" && typeof entry[1] === "number";
    if (!Array.isArray(vocab) || !vocab.every(isEntry)) throw invalid("vocab is not a list of token and score");
    return;
  }
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab)) throw invalid("vocab is not a map");
  for (const [token, id] of Object.entries(vocab)) {
    if (!Number.isInteger(id) || id < 0 || id > MAX_TOKEN_ID)
      throw invalid(`vocab gives ${JSON.stringify(token)} no id`);
  }
  const isMerge = (merge: unknown) =>
    typeof merge === "string" ||
    (Array.isArray(merge) && merge.length === 2 && merge.every((m) => typeof m === "string"));
  if (!Array.isArray(merges) || !merges.every(isMerge)) throw invalid("merges is not a list of pairs");
}

/** @param list - the field in which a `Sequence` of this kind keeps its parts */
function checkParts(field: string, value: unknown, list: string, supported: readonly string[]): void {
  if (value === null || value === undefined) return;
  const part = partSchema.safeParse(value);
  if (!part.success) throw new TokenizerError("TOKENIZER_INVALID", `tokenizer.json: ${field} has no type`);
  if (part.data.type === "Sequence") {
    const parts = part.data[list];
    if (!Array.isArray(parts)) throw new TokenizerError("TOKENIZER_INVALID", `tokenizer.json: ${field} has no ${list}`);
    for (const inner of parts) checkParts(field, inner, list, supported);
  } else if (!supported.includes(part.data.type)) {
    throw new TokenizerError(
      "TOKENIZER_INVALID",
      `tokenizer.json: ${field} ${part.data.type} is not supported; supported: ${supported.join(", ")}`,
    );
  }
}

function preTokenizer(value: unknown): Part | null {
  if (value === null || value === undefined) return null;
  const part = value as Part;
  switch (part.type) {
    case "Sequence":
      return { ...part, pretokenizers: (part["pretokenizers"] as unknown[]).map(preTokenizer) };
    case "Digits":
      // The library takes ASCII digits only; the reference takes every character of the number categories.
      return split(part["individual_digits"] === true ? "\\p{N}" : "\\p{N}+");
    case "ByteLevel":
      if (part["add_prefix_space"] !== false) {
        throw new TokenizerError(
          "TOKENIZER_INVALID",
          "tokenizer.json: pre_tokenizer ByteLevel with add_prefix_space is not supported",
        );
      }
      if (part["use_regex"] === false) return part;
      // The library's own copy of the rule has JavaScript's white space: U+FEFF too many, U+0085 missing.
      return { type: "Sequence", pretokenizers: [split(BYTE_LEVEL_WORDS), { ...part, use_regex: false }] };
    case "Split": {
      const behavior = String(part["behavior"]).toLowerCase();
      if (!SPLIT_BEHAVIORS.includes(behavior) || (part["invert"] === true && behavior !== "removed")) {
        throw new TokenizerError(
          "TOKENIZER_INVALID",
          `tokenizer.json: pre_tokenizer Split with behavior ${JSON.stringify(part["behavior"])}, invert ${part["invert"]} is not supported`,
        );
      }
      return part;
    }
    default:
      return part;
  }
}

function split(words: string): Part {
  return { type: "Split", pattern: { Regex: words }, behavior: "Isolated", invert: false };
}
