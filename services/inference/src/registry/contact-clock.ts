/** Clocks of machines with NTP differ by less, and a clock that is set right moves by less. Milliseconds. */
const TOLERANCE = 5_000;

export interface Clocks {
  /** Milliseconds since the epoch. */
  readonly wall: () => number;
  /** Milliseconds since some moment; never goes back, and may stand still while the machine sleeps. */
  readonly steady: () => number;
}

const OWN_CLOCKS: Clocks = { wall: () => Date.now(), steady: () => performance.now() };

/**
 * How long ago the registry was heard. Two clocks are asked and the larger answer counts: one may have been set back, the
 * other may have slept.
 */
export class ContactClock {
  readonly #clocks: Clocks;
  /** Undefined where nobody knows. */
  #heard: { readonly wall: number; readonly steady: number } | undefined;

  constructor(clocks: Clocks = OWN_CLOCKS) {
    this.#clocks = clocks;
  }

  heard(): void {
    this.#heard = { wall: this.#clocks.wall(), steady: this.#clocks.steady() };
  }

  /**
   * Go on from an earlier process.
   *
   * @param wall - when it heard the registry, milliseconds since the epoch
   * @returns false for a time that is yet to come: the clock was set back, and nobody knows how long ago that was
   */
  resume(wall: number): boolean {
    const age = this.#clocks.wall() - wall;
    if (age < -TOLERANCE) return false;
    this.#heard = { wall, steady: this.#clocks.steady() - Math.max(0, age) };
    return true;
  }

  /** Milliseconds; infinite where nobody knows. */
  age(): number {
    if (this.#heard === undefined) return Number.POSITIVE_INFINITY;
    const { wall, steady } = this.#heard;
    return Math.max(0, this.#clocks.wall() - wall, this.#clocks.steady() - steady);
  }

  /** By the wall's clock, milliseconds since the epoch. */
  get lastHeard(): number | undefined {
    return this.#heard?.wall;
  }
}
