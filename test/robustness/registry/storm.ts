import { setTimeout as sleep } from "node:timers/promises";
import { DistributionService, ModelService, TenantService, VectorService } from "@persona-mesh/protocol/registry";
import { type Fault, faultsOf } from "./faults.ts";
import { type Findings, findingsOf } from "./findings.ts";
import type { Request } from "./history.ts";
import { type Log, RandomClient } from "./operations.ts";
import { MODEL, TENANTS, VECTORS } from "./scene.ts";
import { type Replica, Stage } from "./stage.ts";
import { Watcher } from "./watcher.ts";

export interface StormOptions {
  /** kill -9 of a replica or of PostgreSQL. */
  readonly kills: number;
  readonly seed: number;
  /** On a small file system, where a full disk can be had; that fault is left out where unset. */
  readonly disk?: string | undefined;
  readonly signal: AbortSignal;
  /** A fault was inflicted; `done` kills so far. */
  readonly onFault: (name: string, done: number) => void;
}

export interface StormReport {
  readonly kills: number;
  /** How often each fault was inflicted. */
  readonly faults: Readonly<Record<string, number>>;
  /** Faults that could not be had on this machine. */
  readonly untried: readonly string[];
  /** Changes that a client was told are done, by call. */
  readonly acknowledged: Readonly<Record<string, number>>;
  /** Answers by call and kind. */
  readonly answers: Readonly<Record<string, number>>;
  /** Changes that watchers were told of. */
  readonly watched: number;
  readonly findings: Findings;
}

const CLIENTS = 6;
const WATCHERS = 6;

/** Of quiet between two faults. Milliseconds. */
const QUIET = 700;

/** And so many changes are acknowledged meanwhile: a fault says something in traffic only, and machines differ. */
const CHANGES_BETWEEN = 6;

/** For which is waited no longer than this. Milliseconds. */
const LONGEST_QUIET = 10_000;

/** Share of faults that come with another one beside them. */
const TWO_AT_ONCE = 0.3;

/** Longest wait for everything to be well again. Milliseconds. */
const RECOVERY = 60_000;

/**
 * Random operations of several clients against two replicas while everything around them breaks; then a close look.
 *
 * @returns undefined where the signal ended it before
 */
export async function runStorm(options: StormOptions): Promise<StormReport | undefined> {
  const { seed, disk, signal } = options;
  await using stage = await Stage.open(disk);
  if (signal.aborted) return undefined;
  await prepare(stage);
  const random = randomOf(seed);
  const log: Log = { registers: [], requests: [], contents: [], defects: [], counts: new Map() };
  const watchers = await Promise.all(
    // Every other one stays where it is, as workers do.
    Array.from({ length: WATCHERS }, (_, index) =>
      Watcher.open(stage, `watcher-${index}`, index % 2 === 0 ? undefined : random),
    ),
  );
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, (_, index) =>
      RandomClient.open(stage, TENANTS[index % TENANTS.length] as string, random, log),
    ),
  );
  const stopClients = new AbortController();
  const stopWatchers = new AbortController();
  const watching = Promise.all(watchers.map((watcher) => watcher.run(stopWatchers.signal)));
  const writing = Promise.all(clients.map((client) => client.run(stopClients.signal)));
  try {
    const inflicted = await inflictFaults(stage, log, random, options);
    stopClients.abort();
    await writing;
    if (signal.aborted) return undefined;
    const newest = await quiet(stage);
    for (const client of clients) await client.readEverything();
    await until(() => watchers.every((watcher) => watcher.position >= newest), "every watcher has caught up");
    stopWatchers.abort();
    await watching;
    const watched = watchers.map((watcher) => watcher.watched);
    return {
      ...inflicted,
      untried: disk === undefined ? ["a full disk under the database: takes root, to mount a small one"] : [],
      acknowledged: acknowledgedBy(log),
      answers: Object.fromEntries([...log.counts].sort(([a], [b]) => (a < b ? -1 : 1))),
      watched: watched.flatMap(({ events }) => events).filter(({ kind }) => kind === "changes").length,
      findings: await findingsOf(stage, log, watched),
    };
  } finally {
    stopClients.abort();
    stopWatchers.abort();
    await Promise.allSettled([writing, watching]);
  }
}

/** Every fault in turn, and some two at once, until enough was killed. Each is had at least once. */
async function inflictFaults(
  stage: Stage,
  log: Log,
  random: () => number,
  { kills, disk, signal, onFault }: StormOptions,
): Promise<Pick<StormReport, "kills" | "faults">> {
  const faults: Record<string, number> = {};
  let done = 0;
  const inflict = async (fault: Fault) => {
    done += fault.kills;
    faults[fault.name] = (faults[fault.name] ?? 0) + 1;
    onFault(fault.name, done);
    await fault.inflict();
  };
  while (done < kills) {
    const round = shuffled(faultsOf(stage, disk), random);
    for (let next = round.shift(); next !== undefined; next = round.shift()) {
      await traffic(log, QUIET * (0.5 + random()), signal);
      if (signal.aborted) return { kills: done, faults };
      const together = [next];
      if (random() < TWO_AT_ONCE && !next.isAlone && round[0] && !round[0].isAlone)
        together.push(round.shift() as Fault);
      await Promise.all(together.map((fault) => (done + fault.kills > kills ? undefined : inflict(fault))));
    }
  }
  return { kills: done, faults };
}

/** Wait for some time, and until enough happened in it. */
async function traffic(log: Log, milliseconds: number, signal: AbortSignal): Promise<void> {
  const end = performance.now() + LONGEST_QUIET;
  const enough = acknowledgedIn(log).length + CHANGES_BETWEEN;
  await sleep(milliseconds, undefined, { signal }).catch(() => {});
  while (!signal.aborted && acknowledgedIn(log).length < enough && performance.now() < end) await sleep(50);
}

function acknowledgedIn({ requests }: Log): Request[] {
  return requests.filter(({ outcome }) => outcome.kind === "ok");
}

/** Changes that a client was told are done, by call. */
function acknowledgedBy(log: Log): Record<string, number> {
  const acknowledged = acknowledgedIn(log);
  return Object.fromEntries(
    [...Map.groupBy(acknowledged, ({ action }) => action)].map(([name, of]) => [name, of.length]),
  );
}

/** Tenants, their vectors and the model. */
async function prepare(stage: Stage): Promise<void> {
  const [replica] = stage.replicas as [Replica];
  const platform = { tenant: "platform", subject: "ops" };
  const models = await stage.client(ModelService, replica, platform);
  await models.createModel({
    modelId: "robustness",
    model: {
      modelChecksum: MODEL.checksum,
      architecture: "llama",
      layers: MODEL.layers,
      hiddenSize: MODEL.hidden,
      vocabularySize: 100,
    },
  });
  const tenants = await stage.client(TenantService, replica, platform);
  for (const tenant of TENANTS) {
    await tenants.createTenant({ tenantId: tenant, tenant: { quotas: { maxVersions: 1_000_000 } } });
    const vectors = await stage.client(VectorService, replica, { tenant });
    for (const vectorId of VECTORS) await vectors.createVector({ parent: `tenants/${tenant}`, vectorId });
  }
}

/** Wait until both replicas answer and a root has covered the end. @returns the newest revision */
async function quiet(stage: Stage): Promise<bigint> {
  let newest = 0n;
  for (const replica of stage.replicas) {
    const client = await stage.client(DistributionService, replica, { tenant: "acme" });
    await until(async () => {
      try {
        newest = (await client.getDistribution({ parent: "tenants/acme" })).revision;
        return true;
      } catch {
        return false;
      }
    }, `replica ${replica.index} answers again`);
  }
  // A root is signed every second.
  await sleep(2_500);
  return newest;
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const end = performance.now() + RECOVERY; !(await condition()); await sleep(100)) {
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
  }
}

function shuffled<Item>(items: readonly Item[], random: () => number): Item[] {
  return items
    .map((item) => ({ item, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** Numbers from 0 to 1 that a seed decides: mulberry32, good enough to choose calls. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
