/** What an import does, for people who wait. */
export interface ImportProgress {
  /**
   * `verifying` and `checking` only where a package is in the place already: whether it is whole, and whether it is of this
   * checkpoint.
   */
  readonly phase: "verifying" | "checking" | "converting";
  /** Bytes of this phase, read so far and in all. */
  readonly done: number;
  readonly total: number;
  /** Of the whole import, 0 to 1, by bytes; never less than before. */
  readonly fraction: number;
}

/** Counts the bytes of an import, phase after phase. */
export class ProgressMeter {
  readonly #report: ((progress: ImportProgress) => void) | undefined;
  #phase: ImportProgress["phase"] = "converting";
  #done = 0;
  #total = 0;
  /** Bytes of the phases that are expected after this one. */
  #rest = 0;
  /** Fraction at the start of the phase. */
  #begun = 0;

  constructor(report: ((progress: ImportProgress) => void) | undefined) {
    this.#report = report;
  }

  /** @param rest - bytes of the phases that are expected after this one */
  begin(phase: ImportProgress["phase"], total: number, rest = 0): void {
    this.#begun = this.#fraction();
    this.#phase = phase;
    this.#done = 0;
    this.#total = total;
    this.#rest = rest;
  }

  readonly add = (bytes: number): void => {
    this.#done += bytes;
    this.#report?.({ phase: this.#phase, done: this.#done, total: this.#total, fraction: this.#fraction() });
  };

  #fraction(): number {
    const all = this.#total + this.#rest;
    return all === 0 ? this.#begun : this.#begun + (1 - this.#begun) * (this.#done / all);
  }
}
