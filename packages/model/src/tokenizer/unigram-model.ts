import { z } from "zod";
import { byteTokens, MAX_TOKEN_ID, type SubwordModel } from "./subword-model.ts";
import { invalidPart, readPart } from "./tokenizer-schema.ts";

const unigramSchema = z.strictObject({
  type: z.string(),
  unk_id: z.int().min(0).nullish(),
  byte_fallback: z.boolean().default(false),
  // Looked at by hand: a schema takes seconds for 200,000 tokens.
  vocab: z.unknown().optional(),
});

/** What a character costs that the vocabulary does not have, below its least likely piece: SentencePiece's constant. */
const UNKNOWN_PENALTY = 10;

const NOT_A_PIECE = -1;

interface TrieNode {
  readonly next: Map<number, TrieNode>;
  /** Token id of the piece that ends here. */
  id: number;
}

/**
 * Unigram language model: of all ways to cut a word into pieces of the vocabulary, the most likely one.
 *
 * Control tokens that stand in the vocabulary are no pieces, as in SentencePiece, where they have a type of their own. (The
 * reference library forgets the type and finds them in text.)
 */
export class UnigramModel implements SubwordModel {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly unknownId: number | undefined;
  readonly #scores: Float64Array;
  readonly #unknownScore: number;
  readonly #bytes: readonly number[] | undefined;
  readonly #trie: TrieNode = { next: new Map(), id: NOT_A_PIECE };

  /**
   * @param control - texts of the control tokens
   * @throws TokenizerError TOKENIZER_INVALID
   */
  constructor(model: { type: string; [field: string]: unknown }, control: ReadonlySet<string>) {
    const { unk_id, byte_fallback, vocab } = readPart("model", unigramSchema, model);
    const pieces = readPieces(vocab);
    if (unk_id != null && unk_id >= pieces.length) throw invalidPart("model.unk_id is not in the vocabulary");
    this.unknownId = unk_id ?? undefined;
    this.vocabulary = new Map(pieces.map(([piece], id) => [piece, id]));
    if (this.vocabulary.size < pieces.length) throw invalidPart("model.vocab has a piece twice");
    this.#scores = Float64Array.from(pieces, ([, score]) => score);
    this.#unknownScore = this.#scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
    this.#bytes = byte_fallback ? byteTokens(this.vocabulary) : undefined;
    for (const [id, [piece]] of pieces.entries()) if (id === unk_id || !control.has(piece)) this.#add(piece, id);
  }

  encodeWord(word: string, ids: number[]): void {
    const characters = Array.from(word, (character) => character.codePointAt(0) as number);
    const path = this.#bestPath(characters);
    const unknown: number[] = [];
    const writeUnknown = () => {
      if (unknown.length > 0) this.#writeUnknown(unknown, ids);
      unknown.length = 0;
    };
    for (const { id, from, to } of path) {
      // Unknown characters side by side are one unknown text.
      if (id === this.unknownId) unknown.push(...characters.slice(from, to));
      else {
        writeUnknown();
        ids.push(id);
      }
    }
    writeUnknown();
  }

  #writeUnknown(characters: readonly number[], ids: number[]): void {
    const text = characters.map((character) => String.fromCodePoint(character)).join("");
    const known = this.vocabulary.get(text);
    if (known !== undefined) ids.push(known);
    else if (this.#bytes === undefined) ids.push(this.unknownId as number);
    else for (const byte of new TextEncoder().encode(text)) ids.push(this.#bytes[byte] as number);
  }

  /** Viterbi's algorithm: the best way to each place in turn. Of equally likely ways, the one with the longer last piece. */
  #bestPath(characters: readonly number[]): { id: number; from: number; to: number }[] {
    const { length } = characters;
    const score = new Float64Array(length + 1);
    const from = new Int32Array(length + 1).fill(-1);
    const id = new Int32Array(length + 1);
    const consider = (start: number, end: number, piece: number, pieceScore: number) => {
      const candidate = pieceScore + (score[start] as number);
      if (from[end] !== -1 && candidate <= (score[end] as number)) return;
      score[end] = candidate;
      from[end] = start;
      id[end] = piece;
    };
    for (let start = 0; start < length; start++) {
      let node = this.#trie;
      let hasSingle = false;
      for (let end = start + 1; end <= length; end++) {
        const following = node.next.get(characters[end - 1] as number);
        if (following === undefined) break;
        node = following;
        if (node.id === NOT_A_PIECE) continue;
        consider(start, end, node.id, this.#scores[node.id] as number);
        if (end === start + 1) hasSingle = true;
      }
      if (hasSingle) continue;
      if (this.unknownId === undefined) {
        const character = String.fromCodePoint(characters[start] as number);
        throw invalidPart(`the vocabulary has no token for ${JSON.stringify(character)}`);
      }
      consider(start, start + 1, this.unknownId, this.#unknownScore);
    }
    const path: { id: number; from: number; to: number }[] = [];
    for (let to = length; to > 0; to = from[to] as number) {
      path.push({ id: id[to] as number, from: from[to] as number, to });
    }
    return path.reverse();
  }

  #add(piece: string, id: number): void {
    if (piece === "") return;
    let node = this.#trie;
    for (const character of piece) {
      const code = character.codePointAt(0) as number;
      let following = node.next.get(code);
      if (following === undefined) {
        following = { next: new Map(), id: NOT_A_PIECE };
        node.next.set(code, following);
      }
      node = following;
    }
    node.id = id;
  }
}

function readPieces(vocab: unknown): [string, number][] {
  if (!Array.isArray(vocab) || vocab.length === 0 || vocab.length > MAX_TOKEN_ID) {
    throw invalidPart("model.vocab is not a list of pieces and scores");
  }
  for (const [id, entry] of vocab.entries()) {
    const isPiece = Array.isArray(entry) && typeof entry[0] === "string" && Number.isFinite(entry[1]);
    if (!isPiece) throw invalidPart(`model.vocab.${id} is not a piece with a score`);
  }
  return vocab as [string, number][];
}
