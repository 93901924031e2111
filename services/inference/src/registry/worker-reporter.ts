import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "@persona-mesh/service";
import { Backoff } from "./backoff.ts";
import type { RegistryConnection } from "./registry-connection.ts";
import { problemsOf, type SourceState, WORKER_STATES } from "./source-state.ts";

/** By contract. */
const MAX_PROBLEMS = 100;

/** First the tokens of a change, then the word of it; what is reported meanwhile is one report. Milliseconds. */
const DELAY = 20;

/** Of a report whose answer does not come. Milliseconds. */
const TIMEOUT = 10_000;

/** What a report says: the state, and up to where everything is in force and durable. */
export interface WorkerReport {
  readonly state: SourceState;
  readonly appliedRevision: bigint;
}

/** Tells the registry what is in force: one report at a time, the newest, until it has arrived. */
export class WorkerReporter implements AsyncDisposable {
  readonly #connection: RegistryConnection;
  readonly #identity: { readonly worker: string; readonly modelChecksum: string };
  readonly #log: Logger;
  readonly #closing = new AbortController();
  #next: WorkerReport | undefined;
  #sending: Promise<void> | undefined;

  constructor(
    connection: RegistryConnection,
    identity: { readonly worker: string; readonly modelChecksum: string },
    log: Logger,
  ) {
    this.#connection = connection;
    this.#identity = identity;
    this.#log = log;
  }

  /** Off the hot path: returns at once. */
  report(report: WorkerReport): void {
    this.#next = report;
    this.#sending ??= this.#send().finally(() => {
      this.#sending = undefined;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#sending;
  }

  async #send(): Promise<void> {
    const { signal } = this.#closing;
    const backoff = new Backoff({ first: 200, most: 10_000 });
    await sleep(DELAY, undefined, { signal, ref: false }).catch(() => {});
    while (this.#next !== undefined && !signal.aborted) {
      const report = this.#next;
      try {
        await this.#connection.client.reportWorker(messageOf(report, this.#identity), { signal, timeoutMs: TIMEOUT });
        backoff.reset();
        if (this.#next === report) this.#next = undefined;
      } catch (error) {
        if (signal.aborted) return;
        this.#log.debug({ err: error }, "the report did not reach the registry; trying again");
        await sleep(backoff.next(), undefined, { signal, ref: false }).catch(() => {});
      }
    }
  }
}

function messageOf(
  { state, appliedRevision }: WorkerReport,
  { worker, modelChecksum }: { readonly worker: string; readonly modelChecksum: string },
) {
  const problems = problemsOf(state).slice(0, MAX_PROBLEMS);
  return {
    worker,
    modelChecksum,
    state: WORKER_STATES[state.kind],
    appliedRevision,
    problems: problems.map(({ tenant, resource, reason, message }) => ({ tenant, resource, reason, message })),
  };
}
