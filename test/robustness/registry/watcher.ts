import { DistributionService, type WatchResponse } from "@persona-mesh/protocol/registry";
import type { Client } from "@persona-mesh/service";
import type { Watched, WatchedEvent } from "./history.ts";
import { MODEL } from "./scene.ts";
import type { Stage } from "./stage.ts";

/** Before a broken watch is taken up again. Milliseconds. */
const RETRY_DELAY = 100;

/** Longer without a word and the watch is dead: bookmarks come more often. Milliseconds. */
const SILENCE = 6_000;

/** A worker's watch: takes up again from its last revision, at the other replica, for as long as it runs. */
export class Watcher {
  readonly #name: string;
  readonly #clients: readonly Client<typeof DistributionService>[];
  readonly #events: WatchedEvent[] = [];
  #position: bigint | undefined;

  static async open(stage: Stage, name: string): Promise<Watcher> {
    const clients = await Promise.all(
      stage.replicas.map((replica) => stage.client(DistributionService, replica, { service: "inference" })),
    );
    return new Watcher(name, clients);
  }

  private constructor(name: string, clients: readonly Client<typeof DistributionService>[]) {
    this.#name = name;
    this.#clients = clients;
  }

  get watched(): Watched {
    return { watcher: this.#name, events: this.#events };
  }

  /** Everything up to it was told. */
  get position(): bigint {
    return this.#position ?? -1n;
  }

  async run(signal: AbortSignal): Promise<void> {
    for (let at = 0; !signal.aborted; at++) {
      const silence = new AbortController();
      let timer = setTimeout(() => silence.abort(), SILENCE);
      try {
        const stream = (this.#clients[at % 2] as Client<typeof DistributionService>).watch(
          {
            modelChecksum: MODEL.checksum,
            worker: this.#name,
            ...(this.#position === undefined ? {} : { resumeRevision: this.#position }),
          },
          { signal: AbortSignal.any([signal, silence.signal]), timeoutMs: Number.POSITIVE_INFINITY },
        );
        for await (const { event } of stream) {
          clearTimeout(timer);
          timer = setTimeout(() => silence.abort(), SILENCE);
          this.#take(event);
        }
      } catch {
        // A replica was killed, or the network between; the other one goes on from the same revision.
      } finally {
        clearTimeout(timer);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY));
    }
  }

  #take(event: WatchResponse["event"]): void {
    const taken = eventOf(event);
    if (taken === undefined) return;
    this.#events.push(taken);
    this.#position = taken.revision;
  }
}

function eventOf(event: WatchResponse["event"]): WatchedEvent | undefined {
  switch (event.case) {
    case "snapshot":
      return event.value.last ? { kind: "snapshot", revision: event.value.revision } : undefined;
    case "changes":
      return { kind: "changes", revision: event.value.revision, previous: event.value.previousRevision };
    case "bookmark":
      return { kind: "bookmark", revision: event.value.revision };
    default:
      return undefined;
  }
}
