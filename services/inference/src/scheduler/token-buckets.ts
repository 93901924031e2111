const MILLIS_PER_MINUTE = 60_000;

interface Bucket {
  /** Tokens left; below 0 after a request larger than the bucket. */
  level: number;
  /** When `level` was true, milliseconds. */
  at: number;
}

/**
 * One bucket of tokens per tenant that has a limit: it holds a minute's worth and fills evenly.
 *
 * What a request will take is not known when it comes, so it pays for the most and gets the rest back.
 */
export class TokenBuckets {
  readonly #clock: () => number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param clock - milliseconds that never run backwards */
  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /**
   * Pay for a request, or say how long it has to wait.
   *
   * A request that is larger than a full bucket is let in by a full one, which then owes; else it could never come in.
   *
   * @param perMinute - what holds for the tenant now; infinite for no limit
   * @returns 0 once paid, else milliseconds after which the same request is paid for if nothing else comes before it
   */
  pay(tenant: string, tokens: number, perMinute: number): number {
    if (perMinute === Number.POSITIVE_INFINITY) {
      this.#buckets.delete(tenant);
      return 0;
    }
    const bucket = this.#filled(tenant, perMinute);
    const missing = Math.min(tokens, perMinute) - bucket.level;
    if (missing > 0) return Math.ceil((missing / perMinute) * MILLIS_PER_MINUTE);
    bucket.level -= tokens;
    return 0;
  }

  /** Give back what a request did not take. */
  giveBack(tenant: string, tokens: number, perMinute: number): void {
    if (!this.#buckets.has(tenant)) return;
    const bucket = this.#filled(tenant, perMinute);
    bucket.level = Math.min(perMinute, bucket.level + tokens);
    // A full bucket is what a tenant has that was never heard of.
    if (bucket.level >= perMinute) this.#buckets.delete(tenant);
  }

  #filled(tenant: string, perMinute: number): Bucket {
    const now = this.#clock();
    let bucket = this.#buckets.get(tenant);
    if (bucket === undefined) {
      bucket = { level: perMinute, at: now };
      this.#buckets.set(tenant, bucket);
      return bucket;
    }
    bucket.level = Math.min(perMinute, bucket.level + ((now - bucket.at) * perMinute) / MILLIS_PER_MINUTE);
    bucket.at = now;
    return bucket;
  }
}
