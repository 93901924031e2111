import { TokenizerError } from "../errors.ts";
import { ControlGuard } from "./control-guard.ts";
import { type DecodeOptions, StreamingDecoder, type TokenReader } from "./streaming-decoder.ts";
import { StringTrie } from "./string-trie.ts";
import { type TokenSpelling, tokenSpelling } from "./token-bytes.ts";
import { parseTokenizerFiles, type TokenizerFiles } from "./tokenizer-files.ts";
import { createLibraryTokenizer, type LibraryTokenizer } from "./tokenizer-library.ts";
import { libraryForm } from "./tokenizer-parts.ts";

/** Longer texts fit no context: at four characters a token this is a million tokens. */
export const MAX_TEXT_CHARACTERS = 4 * 1024 * 1024;

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
  /** Spaces that decoding drops at the start of a text; see {@link TokenSpelling}. */
  readonly leadingSpaces: number;

  readonly #inner: LibraryTokenizer;
  readonly #guard: ControlGuard;
  readonly #added: StringTrie;
  readonly #controlIds: ReadonlySet<number>;
  readonly #unknownId: number | undefined;
  readonly #bytes: readonly (Uint8Array | undefined)[];
  readonly #before: readonly number[];
  readonly #after: readonly number[];
  /** Dropped from the text that is being encoded; see {@link ControlGuard}. */
  #mark = "";

  private constructor(files: TokenizerFiles) {
    this.#inner = createLibraryTokenizer(libraryForm(files.tokenizer), files.config);
    this.namedTokens = files.namedTokens;
    this.controlTokens = controlTokens(this.#inner, files);
    this.#controlIds = new Set(this.controlTokens.values());
    this.#guard = new ControlGuard(this.controlTokens.keys());
    const matchedAsWritten = files.tokenizer.added_tokens.filter((token) => !isMatchedNormalized(token, files));
    this.#added = new StringTrie(matchedAsWritten.map(({ content }) => content));
    const unknown = files.namedTokens["unk_token"];
    this.#unknownId = unknown === undefined ? undefined : this.controlTokens.get(unknown);
    const spelling = tokenSpelling(files.tokenizer.decoder);
    this.leadingSpaces = spelling.leadingSpaces;
    this.#bytes = spellVocabulary(this.#inner, spelling);
    this.vocabularySize = this.#bytes.length;
    this.#dropMarks();
    [this.#before, this.#after] = this.#surroundings(files);
  }

  /**
   * @param tokenizerJson - contents of tokenizer.json
   * @param configJson - contents of tokenizer_config.json
   * @throws TokenizerError TOKENIZER_INVALID naming the part that is malformed or not supported
   */
  static parse(tokenizerJson: string, configJson: string): Tokenizer {
    const files = parseTokenizerFiles(tokenizerJson, configJson);
    try {
      return new Tokenizer(files);
    } catch (error) {
      if (error instanceof TokenizerError) throw error;
      throw new TokenizerError("TOKENIZER_INVALID", `the tokenizer does not load: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /**
   * @returns token ids
   * @throws TokenizerError TEXT_TOO_LONG; CONTROL_TOKEN_IN_TEXT when the text would give a control token all the same
   */
  encode(text: string, options: EncodeOptions = {}): number[] {
    checkLength(text);
    const mark = this.#guard.chooseMark([text]);
    const marked = options.controlTokens === "tokens" ? text : this.#guard.mark(text, mark);
    const ids = this.encodeMarked(marked, mark);
    return options.addSpecial === true ? [...this.#before, ...ids, ...this.#after] : ids;
  }

  /**
   * Encode text in which `mark` keeps control tokens apart; they match only where no mark is inside.
   *
   * @throws TokenizerError CONTROL_TOKEN_IN_TEXT when a control token comes out that unmarked text did not ask for
   */
  encodeMarked(text: string, mark: string): number[] {
    checkLength(text);
    if (text === "") return [];
    this.#mark = mark;
    const ids = this.#run(text, false);
    // The tokenizer is the judge, but it is not trusted: some vocabularies can spell a control token by merging.
    const found = ids.filter((id) => this.#controlIds.has(id) && id !== this.#unknownId);
    const asked = this.#controlTokensIn(text, mark);
    if (found.length !== asked.length || found.some((id, i) => id !== asked[i])) {
      throw new TokenizerError(
        "CONTROL_TOKEN_IN_TEXT",
        "the text cannot be encoded without producing a control token of the model",
      );
    }
    return ids;
  }

  /** The guard for texts that are put together before they are encoded. */
  get guard(): ControlGuard {
    return this.#guard;
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
   * @returns shared, not to be written
   * @throws TokenizerError TOKEN_OUT_OF_RANGE
   */
  tokenBytes(id: number): Uint8Array {
    const bytes = this.#bytes[id];
    if (bytes === undefined) {
      throw new TokenizerError("TOKEN_OUT_OF_RANGE", `token ${id} is not in the vocabulary of ${this.vocabularySize}`);
    }
    return bytes;
  }

  isControl(id: number): boolean {
    return this.#controlIds.has(id);
  }

  #run(text: string, addSpecial: boolean): number[] {
    const { ids } = this.#inner.encode(text, { add_special_tokens: addSpecial });
    if (ids.includes(undefined)) {
      throw new TokenizerError("TOKENIZER_INVALID", "the vocabulary has no token for a part of the text");
    }
    return ids as number[];
  }

  /** Control tokens that the text asks for: by the library's rule, the longest added token at each place. */
  #controlTokensIn(text: string, mark: string): number[] {
    const ids: number[] = [];
    for (let at = 0; at < text.length; ) {
      const length = this.#added.longestAt(text, at);
      const id = length === 0 ? undefined : this.controlTokens.get(text.slice(at, at + length));
      const isMarked = length === 1 && at > 0 && text[at - 1] === mark;
      if (id !== undefined && id !== this.#unknownId && !isMarked) ids.push(id);
      at += Math.max(1, length);
    }
    return ids;
  }

  /**
   * Makes the library drop marks once it has looked for added tokens.
   *
   * It looks twice: in the text as written, and whether a whole stretch, normalized, is an added token. Such a stretch
   * keeps a mark until it is split into words.
   */
  #dropMarks(): void {
    const inner = this.#inner;
    const { normalizer, pre_tokenizer: preTokenizer } = inner;
    const clean = (text: string) => (this.#mark === "" ? text : text.replaceAll(this.#mark, ""));
    inner.normalizer = (text) => {
      const normalized = normalizer === null ? clean(text) : normalizer(clean(text));
      return this.controlTokens.has(normalized) ? normalized + this.#mark : normalized;
    };
    inner.pre_tokenizer = (text, options) =>
      preTokenizer === null ? [clean(text)] : preTokenizer(clean(text), options);
  }

  /** What goes before and after a text: what the config says, else what the post-processor does to an example. */
  #surroundings(files: TokenizerFiles): [number[], number[]] {
    if (files.surroundings !== undefined) {
      const named = (add: boolean, role: string) => {
        const id = this.controlTokens.get(files.namedTokens[role] ?? "");
        return add && id !== undefined ? [id] : [];
      };
      return [named(files.surroundings.bos, "bos_token"), named(files.surroundings.eos, "eos_token")];
    }
    const probe = "a";
    const bare = this.#run(probe, false);
    const full = this.#run(probe, true);
    for (let at = 0; at + bare.length <= full.length; at++) {
      if (bare.every((id, i) => full[at + i] === id)) return [full.slice(0, at), full.slice(at + bare.length)];
    }
    throw new TokenizerError("TOKENIZER_INVALID", "tokenizer.json: the post-processor rewrites the text's tokens");
  }
}

function controlTokens(inner: LibraryTokenizer, files: TokenizerFiles): Map<string, number> {
  const named = new Set([...Object.values(files.namedTokens), ...files.additionalTokens]);
  const tokens = new Map<string, number>();
  for (const token of files.tokenizer.added_tokens) {
    const { content, id, special } = token;
    if (!special && !named.has(content)) continue;
    if (isMatchedNormalized(token, files)) {
      throw new TokenizerError(
        "TOKENIZER_INVALID",
        `tokenizer.json: control token ${JSON.stringify(content)} is matched after normalization, which is not supported`,
      );
    }
    tokens.set(content, id);
  }
  for (const content of named) {
    const id = inner.token_to_id(content);
    if (id !== undefined) tokens.set(content, id);
  }
  return tokens;
}

/** Whether a token is looked for in the normalized text instead of the text as written. */
function isMatchedNormalized(token: { normalized: boolean }, files: TokenizerFiles): boolean {
  return token.normalized && files.tokenizer.normalizer != null;
}

function spellVocabulary(inner: LibraryTokenizer, spelling: TokenSpelling): (Uint8Array | undefined)[] {
  const bytes: (Uint8Array | undefined)[] = [];
  const encoder = new TextEncoder();
  const added = inner.get_added_tokens_decoder();
  for (const [token, id] of inner.get_vocab()) {
    if (token === undefined) continue;
    bytes[id] = added.has(id) ? encoder.encode(token) : spelling.bytesOf(token);
  }
  return bytes;
}

function checkLength(text: string): void {
  if (text.length > MAX_TEXT_CHARACTERS) {
    throw new TokenizerError(
      "TEXT_TOO_LONG",
      `the text has ${text.length} characters, over the limit of ${MAX_TEXT_CHARACTERS}`,
    );
  }
}
