import { KL_LIMIT_NATS } from "./coherence.ts";
import { SteeringError } from "./error.ts";
import { entropyRatio, type GuardBand } from "./guard-band.ts";
import type { GuardPolicy } from "./guard-policy.ts";
import { GuardWindow, type WindowLook } from "./guard-window.ts";

/** Why a window is out of bounds. */
export type GuardCause = "ENTROPY_LOW" | "ENTROPY_HIGH" | "REPETITION" | "DIVERGENCE";

/** A window of a reply was out of bounds. */
export interface GuardEvent {
  /** Tokens of the reply before it. */
  readonly afterTokens: number;
  readonly cause: GuardCause;
  /** The window's mean entropy over the baseline's; undefined without a baseline. */
  readonly entropyRatio: number | undefined;
  /** Of the window, 0 to 1. */
  readonly repetition: number;
  /** The window's mean KL to the unsteered twin, nats; undefined where the twin did not cover it. */
  readonly kl: number | undefined;
  /** Effective alpha; both the same where the guard only observes, and once it is 0. */
  readonly alphaBeforeHundredths: number;
  readonly alphaAfterHundredths: number;
}

/** Effective alpha from a token of the reply on, until the next span's. */
export interface AlphaSpan {
  readonly fromToken: number;
  readonly alphaHundredths: number;
}

/** One token of the reply, and the distribution that it was drawn from. */
export interface GuardedToken {
  readonly id: number;
  /** Nats. */
  readonly entropy: number;
}

export interface GuardOptions {
  readonly policy: GuardPolicy;
  /** For the policy's window; without one the guard watches repetition alone. */
  readonly band: GuardBand | undefined;
  /** Effective alpha at the start, 0 or more, in hundredths. */
  readonly alphaHundredths: number;
  /** As the policy's, for this reply. @default the policy's */
  readonly observeOnly?: boolean;
  /** Divergence from a twin, beyond the limit, lowers alpha too; else it is only reported. @default false */
  readonly divergenceActs?: boolean;
}

/**
 * Watches one reply, and lowers its effective alpha by a step for every window that is out of bounds.
 *
 * After every event, and after a change from outside, the guard waits for one full window of tokens written since: what was
 * written before says nothing of the new alpha. Where it cannot lower anything, because it only observes or alpha is 0
 * already, it says so once, and again when the reply has been within bounds in between.
 *
 * Effective alpha is a size: personas of several terms and negative ones are lowered as a whole, through the gain.
 */
export class Guard {
  readonly #policy: GuardPolicy;
  readonly #band: GuardBand | undefined;
  readonly #observeOnly: boolean;
  readonly #divergenceActs: boolean;
  readonly #window: GuardWindow;
  readonly #events: GuardEvent[] = [];
  readonly #spans: AlphaSpan[];
  /** KL of the newest tokens that the twin has read, a window's worth at most. */
  #divergences: number[] = [];
  /** Tokens that the twin has read. */
  #compared = 0;
  /** Tokens of the reply, and how many of them stood before what is watched now. */
  #taken = 0;
  #watchedFrom = 0;
  #alpha: number;
  #canLower = true;
  #latest: WindowLook | undefined;
  /** The reply has been out of bounds ever since an event that changed nothing. */
  #isReported = false;

  /** @throws RangeError for an alpha that is not a whole number from 0, a band of another window, or a window out of bounds */
  constructor(options: GuardOptions) {
    const { policy, band, alphaHundredths, observeOnly = policy.observeOnly, divergenceActs = false } = options;
    if (band !== undefined && band.windowTokens !== policy.windowTokens) {
      throw new RangeError(`a band of ${band.windowTokens} tokens for a window of ${policy.windowTokens}`);
    }
    this.#policy = policy;
    this.#band = band;
    this.#observeOnly = observeOnly;
    this.#divergenceActs = divergenceActs;
    this.#window = new GuardWindow(policy.windowTokens);
    this.#alpha = requireAlpha(alphaHundredths);
    this.#spans = [{ fromToken: 0, alphaHundredths }];
  }

  /** Effective alpha of the next token, in hundredths. */
  get alphaHundredths(): number {
    return this.#alpha;
  }

  /** In order; the first from token 0. */
  get alphas(): readonly AlphaSpan[] {
    return this.#spans;
  }

  get events(): readonly GuardEvent[] {
    return this.#events;
  }

  /**
   * The next token of the reply.
   *
   * @throws SteeringError SCORE_INPUT_INVALID for an entropy that is none
   */
  take({ id, entropy }: GuardedToken): GuardEvent | undefined {
    const look = this.#window.push(id, entropy);
    this.#taken++;
    if (look === undefined) return undefined;
    this.#latest = look;
    const cause = this.#causeOf(look);
    if (cause !== undefined) return this.#act(cause, look);
    this.#isReported = false;
    return undefined;
  }

  /**
   * The twin has read the next token.
   *
   * @param kl - of the steered distribution to the twin's, nats
   * @throws SteeringError SCORE_INPUT_INVALID for a KL that is none
   */
  compare(kl: number): GuardEvent | undefined {
    if (!(kl >= 0)) throw new SteeringError("SCORE_INPUT_INVALID", `KL ${kl} nats`, { kl });
    this.#compared++;
    // The twin lags behind: it may still read what was written before.
    if (this.#compared <= this.#watchedFrom) return undefined;
    this.#divergences.push(kl);
    const { windowTokens } = this.#policy;
    if (this.#divergences.length > windowTokens) this.#divergences.shift();
    const mean = this.#meanDivergence();
    if (!this.#divergenceActs || mean === undefined || mean <= KL_LIMIT_NATS) return undefined;
    return this.#act("DIVERGENCE", this.#latest);
  }

  /**
   * Effective alpha has changed from outside, as when another persona is worn: watch from here on anew.
   *
   * @param canLower - whether lowering it does anything; not for a persona that has acted on the prompt alone. @default true
   */
  wear(alphaHundredths: number, canLower = true): void {
    this.#isReported = false;
    this.#canLower = canLower;
    this.#watchAnew(requireAlpha(alphaHundredths));
  }

  #causeOf({ entropy, repetition }: WindowLook): GuardCause | undefined {
    const limit = this.#band?.repetition ?? this.#policy.repetitionHundredths / 100;
    if (repetition >= limit) return "REPETITION";
    if (this.#band === undefined) return undefined;
    if (entropy < this.#band.low) return "ENTROPY_LOW";
    return entropy > this.#band.high ? "ENTROPY_HIGH" : undefined;
  }

  #act(cause: GuardCause, look: WindowLook | undefined): GuardEvent | undefined {
    const before = this.#alpha;
    const after = this.#observeOnly || !this.#canLower ? before : Math.max(0, before - this.#policy.stepHundredths);
    const changes = after !== before;
    if (!changes && this.#isReported) return undefined;
    const event: GuardEvent = {
      afterTokens: this.#taken,
      cause,
      entropyRatio: this.#band === undefined || look === undefined ? undefined : entropyRatio(look.entropy, this.#band),
      repetition: look?.repetition ?? 0,
      kl: this.#meanDivergence(),
      alphaBeforeHundredths: before,
      alphaAfterHundredths: after,
    };
    this.#events.push(event);
    this.#isReported = !changes;
    this.#watchAnew(after);
    return event;
  }

  /** Under this alpha, from tokens to come alone. */
  #watchAnew(alphaHundredths: number): void {
    this.#window.clear();
    this.#latest = undefined;
    this.#divergences = [];
    this.#watchedFrom = this.#taken;
    if (alphaHundredths === this.#alpha) return;
    this.#alpha = alphaHundredths;
    // Two changes between the same two tokens: only the second one ever acted.
    if (this.#spans.at(-1)?.fromToken === this.#taken) this.#spans.pop();
    if (this.#spans.at(-1)?.alphaHundredths !== alphaHundredths) {
      this.#spans.push({ fromToken: this.#taken, alphaHundredths });
    }
  }

  /** Over the newest window that the twin has read whole, since the last change. */
  #meanDivergence(): number | undefined {
    const { windowTokens } = this.#policy;
    if (this.#divergences.length < windowTokens) return undefined;
    return this.#divergences.reduce((sum, kl) => sum + kl, 0) / windowTokens;
  }
}

function requireAlpha(alphaHundredths: number): number {
  if (Number.isSafeInteger(alphaHundredths) && alphaHundredths >= 0) return alphaHundredths;
  throw new RangeError(`effective alpha ${alphaHundredths} is not a whole number of hundredths from 0`);
}
