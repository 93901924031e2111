import { SteeringError } from "./error.ts";
import { GUARD_POLICY_BOUNDS } from "./guard-policy.ts";
import { repetition } from "./repetition.ts";

/** The last tokens of a reply in numbers. */
export interface WindowLook {
  /** Mean entropy, nats. */
  readonly entropy: number;
  /** 0 to 1. */
  readonly repetition: number;
}

/** Looks per length of a window: repetition is quadratic in the window, and between two looks little changes. */
const LOOKS = 8;

/** What float32 rounding may leave below 0 of an entropy. */
const ROUNDING = 1e-4;

/**
 * A sliding window over a reply. The guard and the baseline that it compares with look through the same one, at the same
 * tokens: at the first full window, and then again every eighth part of one.
 */
export class GuardWindow {
  readonly tokens: number;
  readonly #stride: number;
  /** Rings: the newest token overwrites the oldest. */
  readonly #ids: Float64Array;
  readonly #entropies: Float64Array;
  #taken = 0;

  /** @throws RangeError for a window that no policy may have */
  constructor(tokens: number) {
    const [least, most] = GUARD_POLICY_BOUNDS.windowTokens;
    if (!Number.isSafeInteger(tokens) || tokens < least || tokens > most) {
      throw new RangeError(`a guard's window of ${tokens} tokens is not a whole number from ${least} to ${most}`);
    }
    this.tokens = tokens;
    this.#stride = Math.max(1, Math.floor(tokens / LOOKS));
    this.#ids = new Float64Array(tokens);
    this.#entropies = new Float64Array(tokens);
  }

  /**
   * Take in the next token.
   *
   * @returns what the window is like where it is time to look; undefined between looks, and while it is not full
   * @throws SteeringError SCORE_INPUT_INVALID for an entropy that is none; nothing has changed then
   */
  push(id: number, entropy: number): WindowLook | undefined {
    if (!Number.isFinite(entropy) || entropy < -ROUNDING) {
      throw new SteeringError("SCORE_INPUT_INVALID", `entropy ${entropy} nats`, { entropy });
    }
    const at = this.#taken % this.tokens;
    this.#ids[at] = id;
    this.#entropies[at] = Math.max(0, entropy);
    this.#taken++;
    const past = this.#taken - this.tokens;
    return past >= 0 && past % this.#stride === 0 ? this.#look() : undefined;
  }

  /** Forget what was seen: the next look is at tokens to come alone. */
  clear(): void {
    this.#taken = 0;
  }

  #look(): WindowLook {
    const oldest = this.#taken % this.tokens;
    // In the order of the reply: repetition asks what came before what.
    const ids = [...this.#ids.subarray(oldest), ...this.#ids.subarray(0, oldest)];
    let sum = 0;
    for (const entropy of this.#entropies) sum += entropy;
    return { entropy: sum / this.tokens, repetition: repetition(ids) };
  }
}
