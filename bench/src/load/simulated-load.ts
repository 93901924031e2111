import {
  FairQueue,
  type Job,
  type RowOutcome,
  Scheduler,
  type Step,
} from "../../../services/inference/src/scheduler/index.ts";
import { Latencies } from "../mesh/latencies.ts";
import { Random } from "./random.ts";

/** What steps take, milliseconds: the time of the simulation is made of these alone. */
export interface StepCosts {
  /** Of a decode step, and of each of its rows. */
  readonly decode: number;
  readonly row: number;
  /** Of a chunk, and of each of its positions. */
  readonly chunk: number;
  readonly position: number;
  /** Of copying a slot out or back. */
  readonly swap: number;
}

export interface SimulatedTenant {
  readonly tenant: string;
  readonly arrivals:
    | { readonly kind: "rate"; readonly perSecond: number }
    | { readonly kind: "streams"; readonly count: number };
}

export interface Simulation {
  readonly costs: StepCosts;
  readonly slots: number;
  readonly contextTokens: number;
  readonly chunkTokens: number;
  readonly queueCapacity: number;
  /** Tokens that a tenant may save up. */
  readonly burst: number;
  /** Whether who is over its share gives slots up. */
  readonly preempts: boolean;
  readonly promptTokens: readonly number[];
  readonly replyTokens: readonly number[];
  readonly tenants: readonly SimulatedTenant[];
  readonly seconds: number;
  readonly seed: number;
}

export interface SimulatedTimes {
  readonly firstToken: Latencies;
  readonly betweenTokens: Latencies;
  finished: number;
  refused: number;
  tokens: number;
}

interface SimulatedJob extends Job {
  readonly replyTokens: number;
  readonly arrived: number;
  written: number;
  /** When its last token came. */
  last: number;
}

/**
 * The worker's own scheduler under a load, on a clock that only steps move: what its policy does, without what a machine
 * does at the same time. The same every time.
 */
export function simulateLoad(simulation: Simulation): ReadonlyMap<string, SimulatedTimes> {
  const { costs, seconds, seed, tenants } = simulation;
  const random = new Random(seed);
  const times = new Map(
    tenants.map(({ tenant }) => [
      tenant,
      { firstToken: new Latencies(), betweenTokens: new Latencies(), finished: 0, refused: 0, tokens: 0 },
    ]),
  );
  const of = ({ tenant }: { readonly tenant: string }) => times.get(tenant) as SimulatedTimes;
  let now = 0;
  const share = {
    weight: 1,
    maxRunning: Number.POSITIVE_INFINITY,
    maxWaiting: Number.POSITIVE_INFINITY,
    tokensPerMinute: Number.POSITIVE_INFINITY,
  };
  const copied = () => {
    now += costs.swap;
    return true;
  };
  const scheduler = new Scheduler<SimulatedJob>({
    slots: simulation.slots,
    contextTokens: simulation.contextTokens,
    chunkTokens: simulation.chunkTokens,
    queue: new FairQueue({
      capacity: simulation.queueCapacity,
      share: () => share,
      burst: simulation.burst,
      clock: () => now,
    }),
    ...(simulation.preempts ? { swap: { out: copied, in: copied, drop: () => {} } } : {}),
  });

  let count = 0;
  const submit = (tenant: string, arrived: number) => {
    const job: SimulatedJob = {
      id: `${count++}`,
      tenant,
      kind: "generate",
      tokens: random.of(simulation.promptTokens),
      replyTokens: random.of(simulation.replyTokens),
      arrived,
      written: 0,
      last: 0,
    };
    if (scheduler.submit(job).kind === "refused") of(job).refused++;
  };
  const due = tenants.flatMap(({ tenant, arrivals }) => {
    if (arrivals.kind === "rate") return [{ tenant, mean: 1000 / arrivals.perSecond, at: 0 }];
    for (let i = 0; i < arrivals.count; i++) submit(tenant, 0);
    return [];
  });
  for (const each of due) each.at = random.exponential(each.mean);
  const streams = new Set(tenants.flatMap(({ tenant, arrivals }) => (arrivals.kind === "streams" ? [tenant] : [])));
  const arrive = () => {
    for (const each of due) {
      for (; each.at <= now; each.at += random.exponential(each.mean)) submit(each.tenant, each.at);
    }
  };
  const write = (job: SimulatedJob): RowOutcome => {
    const { firstToken, betweenTokens } = of(job);
    if (job.written === 0) firstToken.add(now - job.arrived);
    else betweenTokens.add(now - job.last);
    job.last = now;
    job.written++;
    of(job).tokens++;
    return job.written < job.replyTokens ? { kind: "continue" } : { kind: "finish", reason: "maxTokens" };
  };
  const complete = (step: Step<SimulatedJob>) => {
    if (step.kind === "decode") {
      return scheduler.completeDecode(
        step,
        step.rows.map((row) => (row.kind === "decode" ? write(row.job) : undefined)),
      );
    }
    return scheduler.completePrefill(step, step.isLast ? write(step.job) : { kind: "continue" });
  };
  while (now < 1000 * seconds) {
    arrive();
    const { step } = scheduler.plan();
    if (step === undefined) {
      now = Math.min(...due.map(({ at }) => at));
      continue;
    }
    now += durationOf(step, costs);
    for (const { job, ending } of complete(step)) {
      if (ending.kind !== "finished") throw new Error(`a request of ${job.tenant} ended ${ending.kind}`);
      of(job).finished++;
      if (streams.has(job.tenant)) submit(job.tenant, now);
    }
  }
  return times;
}

function durationOf(step: Step<SimulatedJob>, { decode, row, chunk, position }: StepCosts): number {
  return step.kind === "decode" ? decode + row * step.rows.length : chunk + position * (step.end - step.start);
}
