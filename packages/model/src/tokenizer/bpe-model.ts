import { z } from "zod";
import { PairTable } from "./pair-table.ts";
import { byteTokens, type SubwordModel } from "./subword-model.ts";
import { invalidPart, readPart } from "./tokenizer-schema.ts";

const bpeSchema = z.strictObject({
  type: z.string(),
  dropout: z.literal(0).nullish(),
  unk_token: z.string().nullish(),
  continuing_subword_prefix: z.literal("").nullish(),
  end_of_word_suffix: z.literal("").nullish(),
  fuse_unk: z.boolean().default(false),
  byte_fallback: z.boolean().default(false),
  ignore_merges: z.boolean().default(false),
  // Looked at by hand: a schema takes seconds for 200,000 tokens.
  vocab: z.unknown().optional(),
  merges: z.unknown().optional(),
});

const encoder = new TextEncoder();

/** More than a text has characters: a candidate is `rank * POSITIONS + position`, exact in a float64. */
const POSITIONS = 2 ** 26;

/**
 * Byte pair encoding: of all neighbours that the merges know, join those of the lowest rank, the leftmost first, until
 * there are none.
 *
 * Candidates wait in a heap, so a word of n characters takes n log n steps, whatever it is made of.
 */
export class BpeModel implements SubwordModel {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly unknownId: number | undefined;
  readonly #merges: PairTable;
  readonly #bytes: readonly number[] | undefined;
  readonly #fusesUnknown: boolean;
  readonly #ignoresMerges: boolean;

  /** @throws TokenizerError TOKENIZER_INVALID */
  constructor(model: { type: string; [field: string]: unknown }, vocabulary: ReadonlyMap<string, number>) {
    const parsed = readPart("model", bpeSchema, model);
    this.vocabulary = vocabulary;
    this.unknownId = parsed.unk_token == null ? undefined : vocabulary.get(parsed.unk_token);
    this.#bytes = parsed.byte_fallback ? byteTokens(vocabulary) : undefined;
    this.#fusesUnknown = parsed.fuse_unk;
    this.#ignoresMerges = parsed.ignore_merges;
    this.#merges = readMerges(parsed.merges, vocabulary);
  }

  encodeWord(word: string, ids: number[]): void {
    const whole = this.#ignoresMerges ? this.vocabulary.get(word) : undefined;
    if (whole !== undefined) ids.push(whole);
    else mergeAll(this.#symbols(word), this.#merges, ids);
  }

  /** A token for each character; for one that is not in the vocabulary, for each of its bytes, or the unknown token. */
  #symbols(word: string): number[] {
    const symbols: number[] = [];
    let isAfterUnknown = false;
    for (const character of word) {
      const id = this.vocabulary.get(character);
      if (id !== undefined) symbols.push(id);
      else if (this.#bytes !== undefined) {
        for (const byte of encoder.encode(character)) symbols.push(this.#bytes[byte] as number);
      } else if (this.unknownId === undefined) {
        throw invalidPart(`the vocabulary has no token for ${JSON.stringify(character)}`);
      } else {
        if (!isAfterUnknown || !this.#fusesUnknown) symbols.push(this.unknownId);
        isAfterUnknown = true;
        continue;
      }
      isAfterUnknown = false;
    }
    return symbols;
  }
}

function readMerges(merges: unknown, vocabulary: ReadonlyMap<string, number>): PairTable {
  if (!Array.isArray(merges)) throw invalidPart("model.merges is not a list of pairs");
  const table = new PairTable(merges.length);
  for (const [rank, merge] of merges.entries()) {
    const pair: unknown = typeof merge === "string" ? merge.split(" ") : merge;
    if (!Array.isArray(pair) || pair.length !== 2) throw invalidPart(`model.merges.${rank} is not a pair`);
    const [left, right] = pair as [string, string];
    const leftId = vocabulary.get(left);
    const rightId = vocabulary.get(right);
    const joined = vocabulary.get(left + right);
    if (leftId === undefined || rightId === undefined || joined === undefined) {
      throw invalidPart(`model.merges.${rank} is not made of tokens of the vocabulary`);
    }
    table.set(leftId, rightId, { rank, joined });
  }
  return table;
}

/**
 * @param symbols - changed in place: a symbol that was joined to its left neighbour becomes -1
 * @param ids - what is left is added here
 */
function mergeAll(symbols: number[], merges: PairTable, ids: number[]): void {
  const { length } = symbols;
  if (length === 1) {
    ids.push(symbols[0] as number);
    return;
  }
  const next = Int32Array.from({ length }, (_, i) => i + 1);
  const previous = Int32Array.from({ length }, (_, i) => i - 1);
  const candidates = new MinHeap();
  const consider = (at: number) => {
    const right = next[at] as number;
    if (at < 0 || right >= length) return;
    const rank = merges.rank(symbols[at] as number, symbols[right] as number);
    if (rank !== -1) candidates.push(rank * POSITIONS + at);
  };
  for (let at = 0; at + 1 < length; at++) consider(at);
  for (let best = candidates.pop(); best !== undefined; best = candidates.pop()) {
    const at = best % POSITIONS;
    const right = next[at] as number;
    if (symbols[at] === -1 || right >= length) continue;
    const left = symbols[at] as number;
    // A candidate whose symbols have been joined to others since.
    if (merges.rank(left, symbols[right] as number) !== Math.floor(best / POSITIONS)) continue;
    symbols[at] = merges.joined(left, symbols[right] as number);
    symbols[right] = -1;
    next[at] = next[right] as number;
    if ((next[at] as number) < length) previous[next[at] as number] = at;
    if ((previous[at] as number) >= 0) consider(previous[at] as number);
    consider(at);
  }
  for (let at = 0; at < length; at = next[at] as number) ids.push(symbols[at] as number);
}

/** Numbers, the smallest first. */
class MinHeap {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.length;
    items.push(item);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((items[parent] as number) <= item) break;
      items[at] = items[parent] as number;
      at = parent;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.#items;
    const top = items[0];
    const item = items.pop();
    if (item === undefined || items.length === 0) return top;
    let at = 0;
    for (let child = 1; child < items.length; child = 2 * at + 1) {
      if (child + 1 < items.length && (items[child + 1] as number) < (items[child] as number)) child++;
      if ((items[child] as number) >= item) break;
      items[at] = items[child] as number;
      at = child;
    }
    items[at] = item;
    return top;
  }
}
