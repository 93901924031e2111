import type { LocalCache } from "./cache/local-cache.ts";
import type { Picture } from "./picture.ts";

/**
 * Pictures that follow each other closely are written to the disk once: flushing one holds up whatever else the disk is to
 * flush, on a small machine the registry's next commit. Milliseconds.
 */
const DELAY = 1_000;

/** How often the time of the last word is written. Milliseconds. */
const CONTACT_INTERVAL = 10_000;

/** What is to be on the disk. */
interface Kept {
  readonly picture: Picture | undefined;
  /** How many are known. */
  readonly revocations: number;
  /** When the picture was known to be up to date, milliseconds since the epoch; undefined while that is not known. */
  readonly heardAt: number | undefined;
}

/** Writes the picture that is in force to the disk, and from time to time when it was known to be up to date. */
export class PictureKeeper implements AsyncDisposable {
  readonly #cache: LocalCache;
  readonly #now: () => Kept;
  readonly #contactTimer: NodeJS.Timeout;
  #timer: NodeJS.Timeout | undefined;
  #keeping: Promise<void> = Promise.resolve();
  #isKept = true;
  #closing = false;

  /** @param now - asked when it is written */
  constructor(cache: LocalCache, now: () => Kept) {
    this.#cache = cache;
    this.#now = now;
    this.#contactTimer = setInterval(() => this.#keepSoon(), CONTACT_INTERVAL);
    this.#contactTimer.unref();
  }

  /** What is on the disk is another picture, or none. */
  outdate(): void {
    this.#isKept = false;
    this.#keepSoon();
  }

  /** Writes what is not there yet. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true;
    clearInterval(this.#contactTimer);
    this.#keep();
    await this.#keeping;
  }

  #keepSoon(): void {
    if (!this.#closing) this.#timer ??= setTimeout(() => this.#keep(), DELAY);
  }

  #keep(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#keeping = this.#keeping.then(async () => {
      const { picture, revocations, heardAt } = this.#now();
      if (picture === undefined) return;
      if (!this.#isKept) {
        this.#isKept = true;
        this.#isKept = (await this.#cache.keep(picture, revocations)) && this.#isKept;
      }
      if (this.#isKept && heardAt !== undefined) await this.#cache.heard(heardAt);
    });
  }
}
