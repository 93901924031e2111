import { setTimeout as sleep } from "node:timers/promises";
import { DistributionService, type WatchResponse } from "@persona-mesh/protocol/registry";
import type { Client } from "@persona-mesh/service";
import type { Watched, WatchedEvent } from "./history.ts";
import { MODEL } from "./scene.ts";
import type { Stage } from "./stage.ts";

/** Before a broken watch is taken up again. Milliseconds. */
const RETRY_DELAY = 100;

/** Longer without a word and the watch is dead: bookmarks come more often. Milliseconds. */
const SILENCE = 6_000;

/** A restless watcher stays and is away up to so long. Milliseconds. */
const LONGEST_STAY = 4_000;
const LONGEST_ABSENCE = 5_000;

/**
 * A worker's watch: takes up again from its last revision, at the other replica, for as long as it runs. A restless one
 * leaves and comes back at random, to any replica: it has missed something then, and the replica may have started since.
 */
export class Watcher {
  readonly #name: string;
  readonly #clients: readonly Client<typeof DistributionService>[];
  readonly #events: WatchedEvent[] = [];
  readonly #random: (() => number) | undefined;
  #position: bigint | undefined;

  /** @param restless - draws when it leaves and where it comes back to; one that stays where unset */
  static async open(stage: Stage, name: string, restless?: () => number): Promise<Watcher> {
    const clients = await Promise.all(
      stage.replicas.map((replica) => stage.client(DistributionService, replica, { service: "inference" })),
    );
    return new Watcher(name, clients, restless);
  }

  private constructor(
    name: string,
    clients: readonly Client<typeof DistributionService>[],
    random: (() => number) | undefined,
  ) {
    this.#name = name;
    this.#clients = clients;
    this.#random = random;
  }

  get watched(): Watched {
    return { watcher: this.#name, events: this.#events };
  }

  /** Everything up to it was told. */
  get position(): bigint {
    return this.#position ?? -1n;
  }

  async run(signal: AbortSignal): Promise<void> {
    const random = this.#random;
    for (let at = 0; !signal.aborted; at++) {
      const leave = random === undefined ? [] : [AbortSignal.timeout(Math.ceil(LONGEST_STAY * random()))];
      const index = random === undefined ? at % 2 : Math.floor(random() * 2);
      await this.#watch(
        this.#clients[index] as Client<typeof DistributionService>,
        AbortSignal.any([signal, ...leave]),
      );
      const away = random === undefined ? RETRY_DELAY : LONGEST_ABSENCE * random();
      await sleep(away, undefined, { signal }).catch(() => {});
    }
  }

  /** Until the signal, silence, or the end of the replica or of the network between. */
  async #watch(client: Client<typeof DistributionService>, signal: AbortSignal): Promise<void> {
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), SILENCE);
    try {
      const stream = client.watch(
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
      // A replica was killed, or the network between; another one goes on from the same revision.
    } finally {
      clearTimeout(timer);
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
