import { setTimeout as sleep } from "node:timers/promises";
import { DistributionService, ModelService, TenantService, VectorService } from "@persona-mesh/protocol/registry";
import { faultsOf } from "./faults.ts";
import { type Findings, findingsOf } from "./findings.ts";
import { openLimitedFolder } from "./limited-folder.ts";
import { type Log, MODEL, RandomClient, TENANTS, VECTORS } from "./operations.ts";
import { type Replica, Stage } from "./stage.ts";
import { Watcher } from "./watcher.ts";

export interface StormOptions {
  /** kill -9 of a replica or of PostgreSQL. */
  readonly kills: number;
  readonly seed: number;
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
  /** Writes that a client was told are done. */
  readonly acknowledged: number;
  /** Answers by call and kind. */
  readonly answers: Readonly<Record<string, number>>;
  /** Changes that watchers were told of. */
  readonly watched: number;
  readonly findings: Findings;
}

const CLIENTS = 6;
const WATCHERS = 4;

/** Of quiet between two faults. Milliseconds. */
const QUIET = 700;

/** Longest wait for everything to be well again. Milliseconds. */
const RECOVERY = 60_000;

/** Random operations of several clients against two replicas while everything around them breaks; then a close look. */
export async function runStorm({ kills, seed, signal, onFault }: StormOptions): Promise<StormReport> {
  await using resources = new AsyncDisposableStack();
  const limited = await openLimitedFolder();
  if (limited !== undefined) resources.use(limited);
  const stage = resources.use(await Stage.open(limited?.path));
  await prepare(stage);

  const random = randomOf(seed);
  const log: Log = { registers: [], acknowledged: [], counts: new Map() };
  const watchers = await Promise.all(
    Array.from({ length: WATCHERS }, (_, index) => Watcher.open(stage, `watcher-${index}`)),
  );
  const clients = await Promise.all(
    Array.from({ length: CLIENTS }, (_, index) =>
      RandomClient.open(stage, TENANTS[index % TENANTS.length] as string, random, log),
    ),
  );
  const stopClients = new AbortController();
  const stopWatchers = new AbortController();
  const watching = watchers.map((watcher) => watcher.run(stopWatchers.signal));
  const writing = clients.map((client) => client.run(stopClients.signal));

  const faults = faultsOf(stage, limited?.path);
  const inflicted: Record<string, number> = {};
  let done = 0;
  // Every fault in turn, the order drawn anew each time: none is missed in a short run.
  while (done < kills && !signal.aborted) {
    for (const fault of shuffled(faults, random)) {
      if (signal.aborted || done >= kills) break;
      await sleep(QUIET * (0.5 + random()), undefined, { signal }).catch(() => {});
      await fault.inflict();
      done += fault.kills;
      inflicted[fault.name] = (inflicted[fault.name] ?? 0) + 1;
      onFault(fault.name, done);
    }
  }
  stopClients.abort();
  await Promise.all(writing);
  const newest = await quiet(stage);
  await until(() => watchers.every((watcher) => watcher.position >= newest), "every watcher has caught up");
  stopWatchers.abort();
  await Promise.all(watching);

  const findings = await findingsOf(
    stage,
    log,
    watchers.map(({ watched }) => watched),
  );
  return {
    kills: done,
    faults: inflicted,
    untried: limited === undefined ? ["a full disk under the database: takes root, to mount a small one"] : [],
    acknowledged: log.acknowledged.length,
    answers: Object.fromEntries([...log.counts].sort(([a], [b]) => (a < b ? -1 : 1))),
    watched: watchers.reduce(
      (sum, { watched }) => sum + watched.events.filter(({ kind }) => kind === "changes").length,
      0,
    ),
    findings,
  };
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
