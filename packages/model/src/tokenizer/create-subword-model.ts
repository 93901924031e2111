import { BpeModel } from "./bpe-model.ts";
import { MAX_TOKEN_ID, type SubwordModel } from "./subword-model.ts";
import { invalidPart, partSchema, unsupportedPart } from "./tokenizer-schema.ts";
import { UnigramModel } from "./unigram-model.ts";

/**
 * @param value - `model` of tokenizer.json
 * @param control - texts of the control tokens; see {@link UnigramModel}
 * @throws TokenizerError TOKENIZER_INVALID naming the field that is malformed or not supported
 */
export function createSubwordModel(value: unknown, control: ReadonlySet<string>): SubwordModel {
  const model = partSchema.safeParse(value);
  if (!model.success) throw invalidPart("model has no type");
  switch (model.data.type) {
    case "BPE":
      return new BpeModel(model.data, readVocabulary(model.data["vocab"]));
    case "Unigram":
      return new UnigramModel(model.data, control);
    default:
      throw unsupportedPart("model", model.data.type, ["BPE", "Unigram"]);
  }
}

function readVocabulary(vocab: unknown): Map<string, number> {
  if (typeof vocab !== "object" || vocab === null || Array.isArray(vocab)) {
    throw invalidPart("model.vocab is not a map");
  }
  const entries = Object.entries(vocab as Record<string, number>);
  for (const [token, id] of entries) {
    if (!Number.isInteger(id) || id < 0 || id > MAX_TOKEN_ID) {
      throw invalidPart(`model.vocab gives ${JSON.stringify(token)} no id`);
    }
  }
  return new Map(entries);
}
