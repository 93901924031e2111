import {
  type AlphaSpan,
  type CoherenceBaseline,
  type CoherenceScore,
  coherenceOf,
  Guard,
  type GuardBand,
  type GuardEvent,
  type GuardedToken,
  type GuardPolicy,
  type ReplyMeasures,
} from "@persona-mesh/steering";
import type { WornPersona } from "../engine/worn-persona.ts";
import type { RefillPolicy } from "./refill-clock.ts";

/** How one reply is guarded. */
export interface GuardSettings {
  readonly policy: GuardPolicy;
  /** Undefined where the served model has no baseline: then repetition alone is watched, and no coherence is scored. */
  readonly baseline: { readonly band: GuardBand; readonly coherence: CoherenceBaseline } | undefined;
  /** Also where the policy lets the guard act. */
  readonly observeOnly: boolean;
  /** Divergence from the twin lowers alpha too. */
  readonly twinActs: boolean;
}

/**
 * The guard of one reply: watches its tokens, and lowers what the request wears between two steps.
 *
 * Every change is an event, and the spans of alpha are those that acted: nothing is lowered without being told.
 */
export class ReplyGuard {
  readonly #worn: WornPersona;
  readonly #settings: GuardSettings;
  readonly #guard: Guard;

  constructor(worn: WornPersona, settings: GuardSettings) {
    const { policy, baseline, observeOnly, twinActs } = settings;
    this.#worn = worn;
    this.#settings = settings;
    this.#guard = new Guard({
      policy,
      band: baseline?.band,
      alphaHundredths: worn.alphaHundredths,
      observeOnly: observeOnly || policy.observeOnly,
      divergenceActs: twinActs,
    });
  }

  /** When keys and values of the reply are computed anew: the policy's. */
  get refillPolicy(): RefillPolicy {
    return this.#settings.policy;
  }

  /** What is worn acts on tokens of the reply. */
  get isActing(): boolean {
    return this.#worn.alphaHundredths > 0 && this.#worn.persona?.positions !== "PROMPT";
  }

  get events(): readonly GuardEvent[] {
    return this.#guard.events;
  }

  /** Effective alpha from token to token. */
  get alphas(): readonly AlphaSpan[] {
    return this.#guard.alphas;
  }

  /** What the request wears is another, or has another alpha, than the guard left it with. */
  changed(): void {
    const { persona, alphaHundredths } = this.#worn;
    // What acted on the prompt is in its keys and values: saying that its alpha is lower now would not be true.
    this.#guard.wear(alphaHundredths, persona?.positions !== "PROMPT");
  }

  /** The next token of the reply, before the step that writes it. */
  take(token: GuardedToken): GuardEvent | undefined {
    return this.#acted(this.#guard.take(token));
  }

  /** The twin has read the next token. */
  compare(kl: number): GuardEvent | undefined {
    return this.#acted(this.#guard.compare(kl));
  }

  /** Undefined without a baseline. */
  coherence(measures: ReplyMeasures): CoherenceScore | undefined {
    const { baseline } = this.#settings;
    return baseline === undefined ? undefined : coherenceOf(measures, baseline.coherence);
  }

  #acted(event: GuardEvent | undefined): GuardEvent | undefined {
    if (event !== undefined && event.alphaAfterHundredths !== event.alphaBeforeHundredths) {
      this.#worn.lower(event.alphaAfterHundredths);
    }
    return event;
  }
}
