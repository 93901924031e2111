import { ServiceError } from "@persona-mesh/service";
import type { Ending } from "../scheduler/index.ts";

/** What the caller of a job waits for: its result, or the error that its ending stands for. */
export class Outcome<T> {
  readonly promise: Promise<T>;
  readonly #resolve: (value: T) => void;
  readonly #reject: (error: unknown) => void;

  constructor() {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.promise = promise;
    this.#resolve = resolve;
    this.#reject = reject;
    // The caller may have gone; its rejection is then nobody's.
    promise.catch(() => {});
  }

  settle(ending: Ending, result: () => T): void {
    if (ending.kind === "finished") this.#resolve(result());
    else this.#reject(errorOf(ending));
  }
}

/** The error that a job's ending is for its caller. */
export function errorOf(ending: Exclude<Ending, { kind: "finished" }>): unknown {
  switch (ending.kind) {
    case "failed":
      return ending.error;
    case "cancelled":
      return new ServiceError("CANCELLED", "the call was cancelled");
    case "displaced":
      return new ServiceError("QUEUE_FULL", "a waiting request took the slot");
    case "drained":
      return new ServiceError("DRAINING", "the worker is shutting down");
  }
}
