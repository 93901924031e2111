import { z } from "zod";
import { MAX_TOKEN_ID } from "./subword-model.ts";
import { flattenPart, invalidPart, readPart, unsupportedPart } from "./tokenizer-schema.ts";

/** Token ids that a model expects before and after a text. */
export interface Surroundings {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const FIELD = "post_processor";
const pieceSchema = z.union([
  z.strictObject({ SpecialToken: z.strictObject({ id: z.string(), type_id: z.int() }) }),
  z.strictObject({ Sequence: z.strictObject({ id: z.string(), type_id: z.int() }) }),
]);
const templateSchema = z.strictObject({
  type: z.string(),
  single: z.array(pieceSchema).max(64),
  // For two texts at once, which are not asked for.
  pair: z.unknown(),
  special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(z.int().min(0).max(MAX_TOKEN_ID)).max(64) })),
});

/**
 * @param value - `post_processor` of tokenizer.json
 * @throws TokenizerError TOKENIZER_INVALID naming the part that is not supported
 */
export function surroundingsOf(value: unknown): Surroundings {
  const before: number[] = [];
  const after: number[] = [];
  for (const part of flattenPart(FIELD, "processors", value)) {
    // It is about offsets in the text, which are not asked for.
    if (part.type === "ByteLevel") continue;
    if (part.type !== "TemplateProcessing") {
      throw unsupportedPart(FIELD, part.type, ["ByteLevel", "TemplateProcessing"]);
    }
    const { single, special_tokens } = readPart(FIELD, templateSchema, part);
    const texts = single.filter((piece) => "Sequence" in piece);
    if (texts.length !== 1) throw invalidPart(`${FIELD} TemplateProcessing: field "single" has not one Sequence`);
    const textAt = single.findIndex((piece) => "Sequence" in piece);
    const idsOf = (pieces: typeof single) =>
      pieces.flatMap((piece) => {
        const name = "SpecialToken" in piece ? piece.SpecialToken.id : "";
        const token = Object.hasOwn(special_tokens, name) ? special_tokens[name] : undefined;
        if (token === undefined) throw invalidPart(`${FIELD} TemplateProcessing: no special token "${name}"`);
        return token.ids;
      });
    // A later part works on what an earlier one made.
    before.unshift(...idsOf(single.slice(0, textAt)));
    after.push(...idsOf(single.slice(textAt + 1)));
  }
  return { before, after };
}
