import { ServiceError } from "@persona-mesh/service";
import type { AlphaSpan, CoherenceScore, GuardEvent, ReplyMeasures } from "@persona-mesh/steering";
import type { Engine } from "../engine/engine.ts";
import { RefillClock } from "./refill-clock.ts";
import type { ReplyGuard } from "./reply-guard.ts";
import type { TwinFigures } from "./twin-figures.ts";
import type { SteeredToken, TwinJob } from "./twin-job.ts";

/** What the guard and the twin of a reply found. */
export interface WatchReport {
  /** Effective alpha from token to token. */
  readonly alphas: readonly AlphaSpan[];
  readonly events: readonly SeenEvent[];
  /** Undefined without a twin, or where it compared nothing. */
  readonly twin: TwinFigures | undefined;
  /** Undefined for an empty reply, and where the served model has no baseline. */
  readonly coherence: CoherenceScore | undefined;
}

export interface SeenEvent extends GuardEvent {
  /** In the clock of `performance.now()`, milliseconds. */
  readonly at: number;
}

export interface ReplyWatchInput {
  readonly engine: Pick<Engine, "submit" | "cancel">;
  readonly guard: ReplyGuard;
  /** Undefined for a reply without one. */
  readonly twin: TwinJob | undefined;
  /** Told of every event as it happens, between two steps. */
  readonly onEvent: (event: GuardEvent) => void;
}

/** How long the end of a reply waits for what its twin has still to read: a few chunks. Milliseconds. */
const TWIN_PATIENCE = 500;

/** The guard of a reply and its twin, where it has one: all that a job has to tell of its tokens, and all that came of it. */
export class ReplyWatch {
  readonly #input: ReplyWatchInput;
  readonly #events: SeenEvent[] = [];
  readonly #refills: RefillClock;

  constructor(input: ReplyWatchInput) {
    this.#input = input;
    this.#refills = new RefillClock(input.guard.refillPolicy);
  }

  /** The reply has its slot, and what it wears is known. */
  begin(): void {
    const { engine, guard, twin } = this.#input;
    guard.changed();
    if (twin === undefined) return;
    try {
      // Not before: a follower takes a slot at once or never.
      engine.submit(twin);
    } catch (error) {
      // A worker that takes no more jobs has no room for twins either.
      if (!(error instanceof ServiceError)) throw error;
      twin.ended({ kind: "drained" });
    }
  }

  /** What the request wears has changed from outside. */
  changed(): void {
    this.#input.guard.changed();
  }

  /** The next token of the reply, before the step that writes it. */
  take(token: SteeredToken): void {
    const { guard, twin } = this.#input;
    this.#refills.take(guard.isActing);
    this.#tell(guard.take(token));
    twin?.take(token);
  }

  /** The twin has read the next token. */
  compare(kl: number): void {
    this.#tell(this.#input.guard.compare(kl));
  }

  /** Whether keys and values of the reply are to be computed anew before the next token; true once each time. */
  takeRefill(): boolean {
    return this.#refills.takeDue(this.#input.guard.isActing);
  }

  /** The reply has finished. @returns when the twin has read the rest, or takes too long; undefined where there is none */
  finish(): Promise<void> | undefined {
    const { engine, twin } = this.#input;
    if (twin === undefined) return undefined;
    twin.close();
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      engine.cancel(twin.id);
      resolve();
    }, TWIN_PATIENCE);
    void twin.over.then(() => {
      clearTimeout(timer);
      resolve();
    });
    return promise;
  }

  /** The reply has ended otherwise, and nobody asks any more. */
  abandon(): void {
    const { engine, twin } = this.#input;
    if (twin !== undefined) engine.cancel(twin.id);
  }

  report(measures: ReplyMeasures | undefined): WatchReport {
    const { guard, twin } = this.#input;
    const figures = twin?.figures();
    return {
      alphas: guard.alphas,
      events: this.#events,
      twin: figures,
      coherence:
        measures === undefined
          ? undefined
          : guard.coherence(figures === undefined ? measures : { ...measures, kl: figures.meanKl }),
    };
  }

  #tell(event: GuardEvent | undefined): void {
    if (event === undefined) return;
    this.#events.push({ ...event, at: performance.now() });
    if (event.alphaAfterHundredths < event.alphaBeforeHundredths) this.#refills.lowered();
    this.#input.onEvent(event);
  }
}
