import { TokenizerError } from "../errors.ts";
import { type AddedToken, AddedTokens } from "./added-tokens.ts";
import { ControlGuard } from "./control-guard.ts";
import { createSubwordModel } from "./create-subword-model.ts";
import { createNormalizer, type Normalize, replacedStrings } from "./normalizer.ts";
import { type Surroundings, surroundingsOf } from "./post-processor.ts";
import { createPreTokenizer, type PreTokenize } from "./pre-tokenizer.ts";
import { type DecodeOptions, StreamingDecoder, type TokenReader } from "./streaming-decoder.ts";
import type { SubwordModel } from "./subword-model.ts";
import { createTokenDecoder, type TokenDecoder, type TokenText } from "./token-decoder.ts";
import { parseTokenizerFiles, type TokenizerFiles } from "./tokenizer-files.ts";
import { invalidPart } from "./tokenizer-schema.ts";
import { withinTime } from "./within-time.ts";

/** Longer texts fit no context: at four characters a token this is a million tokens. */
export const MAX_TEXT_CHARACTERS = 4 * 1024 * 1024;

/**
 * Longest that encoding may take: ten times what it takes. For patterns that take long on some texts only; the simple
 * ones are tried when a tokenizer loads.
 */
const MAX_MILLISECONDS = { base: 1000, perCharacter: 0.02 };

export interface EncodeOptions {
  /**
   * Add what the model expects around a text, such as a start token.
   *
   * @default false
   */
  readonly addSpecial?: boolean;
  /**
   * What `<|end|>` in the text is: ordinary characters, or the control token of that name. `"tokens"` is for text that
   * the caller wrote, never for text from a user.
   *
   * @default "text"
   */
  readonly controlTokens?: "text" | "tokens";
}

/**
 * A model's tokenizer: the ids of the reference implementation, without a way for text to become control tokens.
 *
 * Control tokens are those marked special in tokenizer.json and those named in tokenizer_config.json.
 */
export class Tokenizer implements TokenReader {
  /** One more than the highest token id. */
  readonly vocabularySize: number;
  /** Ids of the control tokens, by their text. */
  readonly controlTokens: ReadonlyMap<string, number>;
  /** Texts that tokenizer_config.json gives to roles: `bos_token`, `eos_token`, `unk_token`, `pad_token`, … */
  readonly namedTokens: Readonly<Record<string, string>>;
  /** Spaces that decoding drops at the start of a text; see {@link TokenDecoder}. */
  readonly leadingSpaces: number;
  /** For texts that are put together before they are encoded. */
  readonly guard: ControlGuard;

  readonly #added: AddedTokens;
  readonly #preTokenize: PreTokenize;
  readonly #model: SubwordModel;
  readonly #decoder: TokenDecoder;
  readonly #surroundings: Surroundings;
  readonly #controlIds: ReadonlySet<number>;
  /** Spelling of each id; vocabularies have gaps. */
  readonly #tokens: readonly (string | undefined)[];

  private constructor(files: TokenizerFiles) {
    const { tokenizer } = files;
    const normalize = createNormalizer(tokenizer.normalizer);
    this.#preTokenize = createPreTokenizer(tokenizer.pre_tokenizer);
    this.#decoder = createTokenDecoder(tokenizer.decoder);
    this.leadingSpaces = this.#decoder.leadingSpaces;
    const named = new Set([...Object.values(files.namedTokens), ...files.additionalTokens]);
    const special = tokenizer.added_tokens.filter(({ special }) => special).map(({ content }) => content);
    this.#model = createSubwordModel(tokenizer.model, new Set([...named, ...special]));
    const added = addedTokens(files, named, this.#model.vocabulary);
    this.controlTokens = new Map(
      added
        .filter(({ content }) => named.has(content) || special.includes(content))
        .map((token) => [token.content, token.id]),
    );
    this.namedTokens = files.namedTokens;
    this.#controlIds = new Set(this.controlTokens.values());
    this.#added = new AddedTokens(added, this.#controlIds, normalize);
    for (const token of added) if (this.isControl(token.id)) requireGuardable(token, tokenizer.normalizer);
    this.guard = new ControlGuard(this.controlTokens.keys());
    this.#tokens = spellings(this.#model.vocabulary, added, normalize);
    this.vocabularySize = this.#tokens.length;
    this.#surroundings = this.#readSurroundings(files);
  }

  /**
   * @param tokenizerJson - contents of tokenizer.json
   * @param configJson - contents of tokenizer_config.json
   * @throws TokenizerError TOKENIZER_INVALID naming the part that is malformed or not supported
   */
  static parse(tokenizerJson: string, configJson: string): Tokenizer {
    return new Tokenizer(parseTokenizerFiles(tokenizerJson, configJson));
  }

  /**
   * @returns token ids
   * @throws TokenizerError TEXT_TOO_LONG; CONTROL_TOKEN_IN_TEXT when the text would give a control token all the same;
   *   TOKENIZER_INVALID when the vocabulary has no token for a part of the text
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    const ids = this.#encode(text.toWellFormed(), "", options.controlTokens !== "tokens");
    return options.addSpecial === true ? [...this.#surroundings.before, ...ids, ...this.#surroundings.after] : ids;
  }

  /**
   * Encode text in which `mark` keeps control tokens apart; they match only where no mark is inside.
   *
   * @throws as {@link encode}
   */
  encodeMarked(text: string, mark: string): number[] {
    return this.#encode(text, mark, false);
  }

  /**
   * @returns the tokens' text; bytes that are not UTF-8 appear as U+FFFD
   * @throws TokenizerError TOKEN_OUT_OF_RANGE
   */
  decode(ids: readonly number[], options: DecodeOptions = {}): string {
    const decoder = new StreamingDecoder(this, options);
    return ids.map((id) => decoder.push(id)).join("") + decoder.flush();
  }

  /**
   * Bytes that a token stands for; a part of a character for some.
   *
   * @throws TokenizerError TOKEN_OUT_OF_RANGE
   */
  tokenBytes(id: number): Uint8Array {
    return this.tokenText(id, false).bytes;
  }

  tokenText(id: number, isFirst: boolean): TokenText {
    const token = this.#tokens[id];
    if (token === undefined) {
      throw new TokenizerError("TOKEN_OUT_OF_RANGE", `token ${id} is not in the vocabulary of ${this.vocabularySize}`);
    }
    return this.#decoder.textOf(token, isFirst);
  }

  isControl(id: number): boolean {
    return this.#controlIds.has(id);
  }

  #encode(text: string, mark: string, skipControl: boolean): number[] {
    if (text.length > MAX_TEXT_CHARACTERS) {
      throw new TokenizerError(
        "TEXT_TOO_LONG",
        `the text has ${text.length} characters, over the limit of ${MAX_TEXT_CHARACTERS}`,
      );
    }
    const milliseconds = Math.ceil(MAX_MILLISECONDS.base + MAX_MILLISECONDS.perCharacter * text.length);
    return withinTime(
      milliseconds,
      () => this.#encodeUnbounded(text, mark, skipControl),
      () => invalidPart(`a pattern takes more than ${milliseconds} ms on a text of ${text.length} characters`),
    );
  }

  #encodeUnbounded(text: string, mark: string, skipControl: boolean): number[] {
    const ids: number[] = [];
    for (const stretch of this.#added.split(text, { mark, skipControl })) {
      if (stretch.kind === "token") {
        ids.push(stretch.id);
        continue;
      }
      let first = ids.length;
      for (const word of this.#preTokenize(stretch.text, stretch.isStart)) this.#model.encodeWord(word, ids);
      // Some vocabularies can spell a control token by merging.
      for (; first < ids.length; first++) {
        const id = ids[first] as number;
        if (this.isControl(id) && id !== this.#model.unknownId) {
          throw new TokenizerError(
            "CONTROL_TOKEN_IN_TEXT",
            "the text cannot be encoded without producing a control token of the model",
          );
        }
      }
    }
    return ids;
  }

  /** What the config says, if it says, else the post-processor. */
  #readSurroundings({ tokenizer, surroundings, namedTokens }: TokenizerFiles): Surroundings {
    const processed = surroundingsOf(tokenizer.post_processor);
    if (surroundings === undefined) return processed;
    const named = (add: boolean, role: string) => {
      const id = this.controlTokens.get(namedTokens[role] ?? "");
      return add && id !== undefined ? [id] : [];
    };
    return { before: named(surroundings.bos, "bos_token"), after: named(surroundings.eos, "eos_token") };
  }
}

/** The file's added tokens, and tokens of the vocabulary that the config names: transformers adds those when it loads. */
function addedTokens(
  { tokenizer }: TokenizerFiles,
  named: ReadonlySet<string>,
  vocabulary: ReadonlyMap<string, number>,
): AddedToken[] {
  const added: AddedToken[] = [...tokenizer.added_tokens];
  const known = new Set<string>();
  for (const { content, id } of added) {
    if (known.has(content)) throw invalidPart(`added_tokens has ${JSON.stringify(content)} twice`);
    known.add(content);
    if ((vocabulary.get(content) ?? id) !== id) {
      throw invalidPart(`added_tokens gives ${JSON.stringify(content)} another id than the vocabulary`);
    }
  }
  for (const content of named) {
    const id = vocabulary.get(content);
    if (id === undefined || known.has(content)) continue;
    added.push({ id, content, lstrip: false, rstrip: false, single_word: false, normalized: false });
  }
  return added;
}

/**
 * A control token that is looked for in the normalized text can be kept out of other text only if there is one way to
 * write it.
 */
function requireGuardable({ content, normalized }: AddedToken, normalizer: unknown): void {
  if (!normalized || normalizer === null || normalizer === undefined) return;
  const replaced = replacedStrings(normalizer);
  if (replaced !== undefined && !replaced.some((text) => content.includes(text))) return;
  throw invalidPart(
    `control token ${JSON.stringify(content)} is matched after normalization, which is not supported with this normalizer`,
  );
}

/** The reference shows tokens that it looks for in the normalized text as they look there. */
function spellings(
  vocabulary: ReadonlyMap<string, number>,
  added: readonly AddedToken[],
  normalize: Normalize | undefined,
): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  for (const [token, id] of vocabulary) tokens[id] = token;
  for (const { content, id, normalized } of added) {
    tokens[id] = normalized && normalize !== undefined ? normalize(content) : content;
  }
  return tokens;
}
