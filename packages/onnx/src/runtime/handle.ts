import { OnnxRuntimeError } from "./error.ts";

let live = 0;

/** Native resources that were made and not freed yet, for tests that look for leaks. */
export function liveHandles(): number {
  return live;
}

/**
 * The life of one native resource: open, then closed by its owner, then freed as soon as nobody uses it.
 *
 * Whoever needs the resource to outlive a call (a binding its tensors, a run in flight its binding) retains it, so that
 * `close()` may come at any time and in any order: it takes effect at once for new uses, and frees when the last user
 * lets go. Nothing native is ever reached after it was freed.
 */
export class Handle {
  readonly #what: string;
  readonly #free: () => void;
  #users = 0;
  #state: "open" | "closing" | "freed" = "open";

  /**
   * @param what - names the resource in errors
   * @param free - releases it; called once, must not throw
   */
  constructor(what: string, free: () => void) {
    this.#what = what;
    this.#free = free;
    live++;
  }

  get closed(): boolean {
    return this.#state !== "open";
  }

  /** @throws OnnxRuntimeError USE_AFTER_CLOSE */
  check(): void {
    if (this.#state !== "open") throw new OnnxRuntimeError("USE_AFTER_CLOSE", `the ${this.#what} is closed`);
  }

  /**
   * Keep the resource until {@link release}.
   *
   * @throws OnnxRuntimeError USE_AFTER_CLOSE
   */
  retain(): void {
    this.check();
    this.#users++;
  }

  release(): void {
    this.#users--;
    this.#freeIfUnused();
  }

  /** Idempotent. */
  close(): void {
    if (this.#state === "open") this.#state = "closing";
    this.#freeIfUnused();
  }

  #freeIfUnused(): void {
    if (this.#state !== "closing" || this.#users > 0) return;
    this.#state = "freed";
    live--;
    this.#free();
  }
}
