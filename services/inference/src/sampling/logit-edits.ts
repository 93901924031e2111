/** What a request changes of every distribution before anything is cut off or drawn. */
export interface LogitEditParameters {
  /**
   * Divides positive logits and multiplies negative ones of tokens in prompt or reply (Keskar et al. 2019). 0.001 to 10;
   * 1 is none.
   */
  readonly repetitionPenalty: number;
  /** Taken from the logit of every token that is in the reply; 0 is none. */
  readonly presencePenalty: number;
  /** Taken from a token's logit as often as it is in the reply; 0 is none. */
  readonly frequencyPenalty: number;
  /** Added to logits, by token id; {@link RULED_OUT} and less rule the token out. */
  readonly bias: ReadonlyMap<number, number>;
  /** Ids that cannot be drawn before the reply has `minTokens`. */
  readonly endTokens: ReadonlySet<number>;
  readonly minTokens: number;
}

/** A bias that rules a token out for good. */
export const RULED_OUT = -100;

/** Of requests that change nothing. */
export const NO_EDITS: LogitEditParameters = {
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  bias: new Map(),
  endTokens: new Set(),
  minTokens: 0,
};

/**
 * The logits of one request, edited: bias, then the repetition penalty, then presence and frequency penalties, then tokens
 * that are ruled out. What a step costs grows with the distinct tokens of prompt and reply, not with their number.
 */
export class LogitEdits {
  readonly #parameters: LogitEditParameters;
  /** Tokens of prompt and reply; empty where nothing depends on them. */
  readonly #seen = new Set<number>();
  /** How often each token is in the reply. */
  readonly #counts = new Map<number, number>();
  #length = 0;

  constructor(parameters: LogitEditParameters, prompt: Iterable<number>) {
    this.#parameters = parameters;
    if (parameters.repetitionPenalty !== 1) for (const id of prompt) this.#seen.add(id);
  }

  /** Whether the next token's distribution is another than the model's: then every logit is needed. */
  get active(): boolean {
    const { repetitionPenalty, bias } = this.#parameters;
    return repetitionPenalty !== 1 || bias.size > 0 || this.#countsMatter() || this.#rulesOutEnds();
  }

  /** The reply has one more token. */
  take(id: number): void {
    this.#length++;
    if (this.#parameters.repetitionPenalty !== 1) this.#seen.add(id);
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
  }

  /**
   * @param logits - float32[vocabulary] as the model gives them; left as they are
   * @returns float32[vocabulary]
   */
  applied(logits: Float32Array): Float32Array {
    const { bias, repetitionPenalty, presencePenalty, frequencyPenalty, endTokens } = this.#parameters;
    const edited = logits.slice();
    const change = (id: number, to: (logit: number) => number) => {
      // Ids of a caller may be beyond what this model has; ids of a reply never are.
      if (id < edited.length) edited[id] = to(edited[id] as number);
    };
    for (const [id, value] of bias) {
      change(id, (logit) => (value <= RULED_OUT ? Number.NEGATIVE_INFINITY : logit + value));
    }
    if (repetitionPenalty !== 1) {
      for (const id of this.#seen) {
        change(id, (logit) => (logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty));
      }
    }
    if (this.#countsMatter()) {
      for (const [id, count] of this.#counts) {
        change(id, (logit) => logit - presencePenalty - frequencyPenalty * count);
      }
    }
    if (this.#rulesOutEnds()) for (const id of endTokens) change(id, () => Number.NEGATIVE_INFINITY);
    return edited;
  }

  #countsMatter(): boolean {
    const { presencePenalty, frequencyPenalty } = this.#parameters;
    return this.#counts.size > 0 && (presencePenalty !== 0 || frequencyPenalty !== 0);
  }

  #rulesOutEnds(): boolean {
    const { endTokens, minTokens } = this.#parameters;
    return this.#length < minTokens && endTokens.size > 0;
  }
}
