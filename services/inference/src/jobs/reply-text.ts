import { StreamingDecoder, type Tokenizer, TokenizerError } from "@persona-mesh/model";
import { StopScanner } from "../sampling/index.ts";

export interface ReplyTextOptions {
  readonly tokenizer: Tokenizer;
  readonly stops: readonly string[];
  /** Stop strings do not count in the text of the first so many tokens. */
  readonly minTokens: number;
}

/** The text of a reply as it can be shown: whole characters, and nothing that may yet become a stop string. */
export class ReplyText {
  readonly #decoder: StreamingDecoder;
  readonly #stops: StopScanner;
  readonly #minTokens: number;
  #tokens = 0;

  /** @throws RangeError for stop strings out of bounds */
  constructor({ tokenizer, stops, minTokens }: ReplyTextOptions) {
    this.#decoder = new StreamingDecoder(tokenizer);
    this.#stops = new StopScanner(stops);
    this.#minTokens = minTokens;
  }

  /** The next token. @returns what can be shown now, and whether a stop string is complete */
  push(id: number): { readonly text: string; readonly stopped: boolean } {
    this.#tokens++;
    const piece = this.#pieceOf(id);
    if (this.#tokens < this.#minTokens) return { text: piece, stopped: false };
    const { kind, text } = this.#stops.push(piece);
    return { text, stopped: kind === "stopped" };
  }

  /** The reply is over: what waited for the end of a character or of a stop string. Nothing after a stop string. */
  rest(): string {
    const { kind, text } = this.#stops.push(this.#decoder.flush());
    return kind === "stopped" ? "" : text + this.#stops.flush();
  }

  /** Models may have more embeddings than their tokenizer has tokens: such an id is a token without text. */
  #pieceOf(id: number): string {
    try {
      return this.#decoder.push(id);
    } catch (error) {
      if (error instanceof TokenizerError && error.reason === "TOKEN_OUT_OF_RANGE") return "";
      throw error;
    }
  }
}
