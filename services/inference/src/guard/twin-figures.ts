/** Steered against unsteered on the steered reply's own tokens. */
export interface TwinFigures {
  /** Tokens that were compared, at least one. */
  readonly tokens: number;
  /** KL of the steered distribution to the unsteered one, nats. */
  readonly meanKl: number;
  readonly maxKl: number;
  /** Steered minus unsteered, nats. */
  readonly meanEntropyDifference: number;
}

/** Adds up what a twin says of token after token. */
export class TwinSums {
  #tokens = 0;
  #kl = 0;
  #maxKl = 0;
  #difference = 0;

  add(token: { readonly kl: number; readonly steeredEntropy: number; readonly twinEntropy: number }): void {
    this.#tokens++;
    this.#kl += token.kl;
    this.#maxKl = Math.max(this.#maxKl, token.kl);
    this.#difference += token.steeredEntropy - token.twinEntropy;
  }

  /** Undefined before the first token. */
  figures(): TwinFigures | undefined {
    const tokens = this.#tokens;
    if (tokens === 0) return undefined;
    return {
      tokens,
      meanKl: this.#kl / tokens,
      maxKl: this.#maxKl,
      meanEntropyDifference: this.#difference / tokens,
    };
  }
}
