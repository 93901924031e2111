/** The checks of a package, in the order in which they run. Stable: programs match on them, docs/models.md lists them. */
export const CHECK_NAMES = [
  "files",
  "identities",
  "weights",
  "graphs",
  "tokenizer",
  "chat-template",
  "runtime",
  "loading",
  "logits",
  "prefill-chunks",
  "batch-independence",
  "steering-delta",
  "steering-projections",
  "steering-gain-zero",
  "steering-renorm",
] as const;

export type CheckName = (typeof CHECK_NAMES)[number];

/** Numbers and names behind a finding, for programs. */
export type Figures = Readonly<Record<string, number | string>>;

/** What a check that passed has to tell. */
export interface Finding {
  readonly message: string;
  readonly figures?: Figures;
}

export interface CheckResult {
  readonly name: CheckName;
  readonly outcome: "passed" | "failed" | "skipped";
  /** What was found, or why it was not run. */
  readonly message: string;
  readonly figures: Figures;
  readonly millis: number;
}

/** How far the check that runs is: bytes read, runs done. */
export type CheckProgress = (done: number, total: number) => void;

/** Thrown by a check that finds what must not be. */
export class CheckFailure extends Error {
  override readonly name = "CheckFailure";
  readonly figures: Figures;

  constructor(message: string, figures: Figures = {}) {
    super(message);
    this.figures = figures;
  }
}

/** Thrown by a check that finds nothing to check. */
export class CheckSkipped extends Error {
  override readonly name = "CheckSkipped";
}

export interface VerifyProgress {
  readonly check: CheckName;
  readonly done: number;
  readonly total: number;
}

/** Runs checks one after the other and keeps what they found. */
export class CheckList {
  readonly results: CheckResult[] = [];
  readonly #signal: AbortSignal | undefined;
  readonly #onProgress: ((progress: VerifyProgress) => void) | undefined;
  readonly #onResult: ((result: CheckResult) => void) | undefined;

  constructor(options: {
    readonly signal?: AbortSignal;
    readonly onProgress?: (progress: VerifyProgress) => void;
    readonly onResult?: (result: CheckResult) => void;
  }) {
    this.#signal = options.signal;
    this.#onProgress = options.onProgress;
    this.#onResult = options.onResult;
  }

  /**
   * Whatever a check throws is what is wrong with the package, except the reason of an abort, which ends everything.
   *
   * @returns whether it passed
   */
  async run(name: CheckName, check: (progress: CheckProgress) => Promise<Finding>): Promise<boolean> {
    this.#signal?.throwIfAborted();
    const begun = performance.now();
    let end: Pick<CheckResult, "outcome" | "message" | "figures">;
    try {
      const { message, figures = {} } = await check((done, total) => {
        this.#signal?.throwIfAborted();
        this.#onProgress?.({ check: name, done, total });
      });
      end = { outcome: "passed", message, figures };
    } catch (error) {
      this.#signal?.throwIfAborted();
      end = {
        outcome: error instanceof CheckSkipped ? "skipped" : "failed",
        message: error instanceof Error ? error.message : String(error),
        figures: error instanceof CheckFailure ? error.figures : {},
      };
    }
    this.#add({ name, ...end, millis: performance.now() - begun });
    return end.outcome === "passed";
  }

  /** Every check that has no result yet. */
  skipRest(why: string): void {
    for (const name of CHECK_NAMES) {
      if (this.results.some((result) => result.name === name)) continue;
      this.#add({ name, outcome: "skipped", message: why, figures: {}, millis: 0 });
    }
  }

  #add(result: CheckResult): void {
    this.results.push(result);
    this.#onResult?.(result);
  }
}
