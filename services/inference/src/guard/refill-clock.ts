import type { GuardPolicy } from "@persona-mesh/steering";

/** What a tenant's policy says of computing keys and values of a reply anew. */
export type RefillPolicy = Pick<GuardPolicy, "cache" | "refillTokens">;

/**
 * When keys and values of one reply are computed anew from its text: after alpha was lowered, where `cache` says so, and
 * every `refillTokens` tokens since the last time, whatever it was for.
 *
 * A reply that nothing has acted on since then is left alone: computed anew it would be what it is.
 */
export class RefillClock {
  readonly #policy: RefillPolicy;
  /** Tokens since the start of the reply, or since it was computed anew or had no need of it. */
  #tokens = 0;
  /** A persona has acted on a token since the reply was computed anew last, or as it was. */
  #isSteered = false;
  #isLowered = false;

  constructor(policy: RefillPolicy) {
    this.#policy = policy;
  }

  /**
   * The next token of the reply was written.
   *
   * @param isActing - whether what the reply wears acts on its tokens
   */
  take(isActing: boolean): void {
    this.#tokens++;
    this.#isSteered ||= isActing;
  }

  /** Alpha is lower from the next token on. */
  lowered(): void {
    this.#isLowered = true;
  }

  /**
   * Whether to compute anew before the next token; the count begins again where it is so.
   *
   * @param isActing - whether what the reply wears will act on it then
   */
  takeDue(isActing: boolean): boolean {
    const { cache, refillTokens } = this.#policy;
    const hasCome = refillTokens > 0 && this.#tokens >= refillTokens;
    const isDue = (hasCome && this.#isSteered) || (this.#isLowered && cache === "REPREFILL");
    this.#isLowered = false;
    if (hasCome || isDue) this.#tokens = 0;
    if (isDue) this.#isSteered = isActing;
    return isDue;
  }
}
