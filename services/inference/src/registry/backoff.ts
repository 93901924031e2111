/** Between two attempts, in milliseconds: doubles from `first` up to `most`. */
export interface BackoffOptions {
  readonly first: number;
  readonly most: number;
}

/**
 * Exponential backoff with full jitter: each wait is drawn evenly from 0 up to a bound that doubles, so that workers that
 * lost the same registry do not come back all at once.
 */
export class Backoff {
  readonly #options: BackoffOptions;
  readonly #random: () => number;
  #bound: number;

  /** @param random - uniform over [0, 1) */
  constructor(options: BackoffOptions, random: () => number = Math.random) {
    this.#options = options;
    this.#random = random;
    this.#bound = options.first;
  }

  /** How long to wait now; longer at every call. */
  next(): number {
    const wait = this.#random() * this.#bound;
    this.#bound = Math.min(this.#options.most, this.#bound * 2);
    return wait;
  }

  /** It worked. */
  reset(): void {
    this.#bound = this.#options.first;
  }
}
