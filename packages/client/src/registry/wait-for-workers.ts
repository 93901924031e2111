import { setTimeout as sleep } from "node:timers/promises";
import type { WorkerStatus } from "@persona-mesh/protocol/registry";
import type { CallOptions } from "@persona-mesh/service/client";
import { everyPage } from "./every-page.ts";
import type { RegistryClient } from "./registry-client.ts";

/** Between two looks; a worker follows within tens of milliseconds. */
const LOOK_MILLIS = 100;

/** How far the workers have come with a change. */
export interface WorkersReached {
  /** Of the registry; workers at or past it have the change. */
  readonly revision: bigint;
  readonly reached: readonly WorkerStatus[];
  /** Connected and not there yet. */
  readonly behind: readonly WorkerStatus[];
  /** Not connected, and not known to be there: they go on with what they had, until the tenant's staleness limit. */
  readonly away: readonly WorkerStatus[];
}

/**
 * Look until every connected worker has a revision in force, or the time is over.
 *
 * @param parent - "tenants/{tenant}"
 * @param revision - what a mutation has answered
 * @returns as it was at the last look; nobody is `behind` unless the time was over
 */
export async function waitForWorkers(
  client: RegistryClient,
  { parent, revision, timeoutMs }: { parent: string; revision: bigint; timeoutMs: number },
  call: Pick<CallOptions, "signal"> = {},
): Promise<WorkersReached> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const workers = await allWorkers(client, parent, revision, call);
    const behind = workers.filter(({ reached, connected }) => !reached && connected);
    if (behind.length === 0 || performance.now() >= end) {
      return {
        revision,
        reached: workers.filter(({ reached }) => reached),
        behind,
        away: workers.filter(({ reached, connected }) => !reached && !connected),
      };
    }
    await sleep(LOOK_MILLIS, undefined, call.signal === undefined ? {} : { signal: call.signal });
  }
}

/** @param revision - who is at or past it; the newest where 0 */
async function allWorkers(
  { distribution }: RegistryClient,
  parent: string,
  revision: bigint,
  call: CallOptions,
): Promise<WorkerStatus[]> {
  const workers = everyPage(
    (page) => distribution.getDistribution(page, call),
    { parent, revision },
    (page) => page.workers,
  );
  return Array.fromAsync(workers);
}
