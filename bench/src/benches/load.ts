import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { importCheckpoint, loadPackage } from "@persona-mesh/model";
import { ModelRuntime } from "@persona-mesh/model/runtime";
import { atLeast, atMost, context, type Figure } from "../figure.ts";
import { DESK_TEMPERATURE, deskCorpus } from "../load/desk-corpus.ts";
import type { LoadReport, TenantLoad, TenantReport } from "../load/load-plan.ts";
import { makeLoad } from "../load/make-load.ts";
import { ServedWorker } from "../load/served-worker.ts";
import { type SimulatedTimes, simulateLoad } from "../load/simulated-load.ts";
import { Latencies } from "../mesh/latencies.ts";
import { LLAMA_135M } from "../models/random-llama.ts";
import { writeSyntheticCheckpoint } from "../models/synthetic-checkpoint.ts";
import { median } from "../statistics.ts";
import type { Bench, BenchContext } from "./bench.ts";
import { decodeStep } from "./decode.ts";

const STARTER = fileURLToPath(new URL("../../../models/starter", import.meta.url));

const POLITE = Array.from({ length: 7 }, (_, index) => `polite-${index}`);
const GREEDY = "greedy";
const PERSONAS_PER_TENANT = 8;
const SLOTS = 16;

/** Tokens; a mix of questions, and of documents to be read. */
const PROMPTS = [16, 48, 160, 320];
const REPLIES = [16, 48, 96];

/** Shares of the capacity, as measured before. */
const POLITE_SHARE = 0.7;
const GREEDY_SHARE = 2;

/** So many streams per tenant keep every slot in use and a queue before it. */
const STREAMS_PER_TENANT = 4;

const GOAL = { politeP99: 1.5, throughput: 0.95, grpc: 0.9 };

/** Of steps of the starter model on two cores, with what it takes to serve their tokens. Milliseconds. */
const STEP_COSTS = { decode: 1, row: 0.2, chunk: 1.5, position: 0.065, swap: 0.5 };

/** As the worker is configured, for so long that the tail is steady. */
const SIMULATED = { contextTokens: 512, chunkTokens: 512, queueCapacity: 256, burst: (SLOTS * 512) / 2, seconds: 1000 };

/** Of the comparison with the engine's own speed: one prompt, and a reply that lasts as long as the measurement. */
const OWN = { prompt: 8, seconds: 12, blocks: 3, steps: 40, position: 128 };

export const loadBench: Bench = {
  name: "load",
  description: "8 tenants with 64 personas on one worker: what a greedy one costs the others; speed over gRPC",
  options: {
    seconds: { description: "of each of the three loads of a round", default: "20" },
    rounds: { description: "of the three loads", default: "5" },
    seed: { description: "of arrivals and prompts", default: "1" },
  },
  run: async (bench) => {
    const [seconds, rounds] = [Number(bench.options["seconds"]), Number(bench.options["rounds"])];
    if (!(seconds >= 5 && seconds <= 3600)) throw new Error("--seconds is a number from 5 to 3600");
    if (!(Number.isSafeInteger(rounds) && rounds >= 1 && rounds <= 100)) throw new Error("--rounds is 1 to 100");
    return [
      ...simulateFairness(bench),
      ...(await measureFairness({ seconds, rounds }, bench)),
      ...(await measureGrpc(bench)),
    ];
  },
};

type Arrivals = readonly (readonly [tenant: string, TenantLoad["arrivals"]])[];

/** The three loads of a round: every slot in use and a queue before it; polite tenants alone; the same beside a greedy one. */
const BEST: Arrivals = [...POLITE, GREEDY].map((tenant) => [tenant, { kind: "streams", count: STREAMS_PER_TENANT }]);

function politeLoad(capacity: number): Arrivals {
  return POLITE.map((tenant) => [tenant, { kind: "rate", perSecond: (POLITE_SHARE * capacity) / POLITE.length }]);
}

function greedyLoad(capacity: number): Arrivals {
  return [...politeLoad(capacity), [GREEDY, { kind: "rate", perSecond: GREEDY_SHARE * capacity }]];
}

/** The scheduler alone, in simulated time: what its policy does, whatever the machine does meanwhile. */
function simulateFairness({ onProgress, options }: BenchContext): Figure[] {
  onProgress("the scheduler in simulated time");
  const simulate = (arrivals: Arrivals, preempts: boolean) =>
    simulateLoad({
      costs: STEP_COSTS,
      slots: SLOTS,
      ...SIMULATED,
      preempts,
      promptTokens: PROMPTS,
      replyTokens: REPLIES,
      tenants: arrivals.map(([tenant, how]) => ({ tenant, arrivals: how })),
      seed: Number(options["seed"]),
    });
  const run = (preempts: boolean) => {
    const best = [...simulate(BEST, preempts).values()];
    const capacity = best.reduce((total, { finished }) => total + finished, 0) / SIMULATED.seconds;
    const alone = simulate(politeLoad(capacity), preempts);
    const beside = simulate(greedyLoad(capacity), preempts);
    const polite = (times: typeof alone, kind: "firstToken" | "betweenTokens") =>
      Latencies.of([...times].flatMap(([tenant, each]) => (tenant === GREEDY ? [] : [each[kind]]))).at(99);
    const tokens = (times: readonly SimulatedTimes[]) => times.reduce((total, each) => total + each.tokens, 0);
    return {
      firstToken: [polite(alone, "firstToken"), polite(beside, "firstToken")] as const,
      betweenTokens: [polite(alone, "betweenTokens"), polite(beside, "betweenTokens")] as const,
      throughput: tokens([...beside.values()]) / tokens(best),
    };
  };
  const [without, given] = [run(false), run(true)];
  const [alone, beside] = given.firstToken;
  return [
    context("simulated: polite tenants alone, time to first token, p99", alone, "ms"),
    context("simulated: beside the greedy one, time to first token, p99", beside, "ms"),
    atMost(
      "simulated: beside the greedy one over alone, time to first token, p99",
      beside / alone,
      "×",
      GOAL.politeP99,
    ),
    context("simulated: the same where no slot is given up", without.firstToken[1] / without.firstToken[0], "×"),
    atMost(
      "simulated: beside the greedy one over alone, time between tokens, p99",
      given.betweenTokens[1] / given.betweenTokens[0],
      "×",
      GOAL.politeP99,
    ),
    atLeast("simulated: throughput beside the greedy tenant over the best", given.throughput, "×", GOAL.throughput),
  ];
}

/** The whole worker, over gRPC. The loads take turns, since a machine is not as fast in every minute. */
async function measureFairness(
  { seconds, rounds }: { readonly seconds: number; readonly rounds: number },
  { directory, onProgress, options }: BenchContext,
): Promise<Figure[]> {
  onProgress("importing the starter model, starting a worker");
  const model = await importCheckpoint(STARTER, join(directory, "starter"));
  await using worker = await ServedWorker.start({
    directory: join(directory, "worker"),
    model: model.directory,
    tenants: [...POLITE, GREEDY],
    personasPerTenant: PERSONAS_PER_TENANT,
    flags: { slots: String(SLOTS) },
  });
  const corpus = await deskCorpus(model.directory);
  const load = async (seed: number, arrivals: Arrivals) =>
    makeLoad({
      address: worker.process.address,
      seconds,
      seed,
      corpus,
      temperature: DESK_TEMPERATURE,
      promptTokens: PROMPTS,
      replyTokens: REPLIES,
      tenants: await Promise.all(
        arrivals.map(async ([tenant, how]) => ({
          tenant,
          arrivals: how,
          token: await worker.token(tenant),
          personas: worker.personas(tenant),
        })),
      ),
    });
  const seen: { best: LoadReport; alone: LoadReport; beside: LoadReport }[] = [];
  for (let round = 0; round < rounds; round++) {
    const seed = Number(options["seed"]) + 100 * round;
    const progress = (what: string) => onProgress(`round ${round + 1} of ${rounds}, ${seconds} s: ${what}`);
    progress("every slot in use, the capacity");
    const best = await load(seed, BEST);
    const capacity = finishedPerSecond(best);
    progress(`polite tenants alone, ${percent(POLITE_SHARE)} of ${capacity.toFixed(1)} requests a second`);
    const alone = await load(seed, politeLoad(capacity));
    progress(`the same beside a greedy tenant at ${percent(GREEDY_SHARE)}`);
    seen.push({ best, alone, beside: await load(seed, greedyLoad(capacity)) });
  }
  const polite = (report: LoadReport, kind: "firstToken" | "betweenTokens" | "queue") =>
    Latencies.merged(report.tenants.filter(isPolite).map((tenant) => tenant[kind]));
  const typical = (of: (round: (typeof seen)[number]) => number) => median(seen.map(of));
  const times = (["firstToken", "betweenTokens"] as const).flatMap((kind) => {
    const name = kind === "firstToken" ? "time to first token" : "time between tokens";
    return [
      ...([50, 99] as const).flatMap((percentile) => [
        context(
          `polite tenants alone, ${name}, p${percentile}`,
          typical(({ alone }) => polite(alone, kind).at(percentile)),
          "ms",
        ),
        context(
          `beside the greedy one, ${name}, p${percentile}`,
          typical(({ beside }) => polite(beside, kind).at(percentile)),
          "ms",
        ),
      ]),
      atMost(
        `beside the greedy one over alone, ${name}, p99`,
        typical(({ alone, beside }) => polite(beside, kind).at(99) / polite(alone, kind).at(99)),
        "×",
        GOAL.politeP99,
      ),
    ];
  });
  const besides = seen.map(({ beside }) => beside.tenants);
  const politeBeside = besides.flatMap((tenants) => tenants.filter(isPolite));
  const greedy = besides.flatMap((tenants) => tenants.filter((tenant) => !isPolite(tenant)));
  return [
    context(
      "capacity",
      typical(({ best }) => finishedPerSecond(best)),
      "requests/s",
    ),
    context(
      "capacity, tokens of replies",
      typical(({ best }) => tokensPerSecond(best)),
      "tokens/s",
    ),
    ...times,
    context(
      "polite tenants alone, in the queue, p99",
      typical(({ alone }) => polite(alone, "queue").at(99)),
      "ms",
    ),
    context(
      "beside the greedy one, in the queue, p99",
      typical(({ beside }) => polite(beside, "queue").at(99)),
      "ms",
    ),
    context("polite requests sent beside the greedy tenant", sum(politeBeside, "sent"), ""),
    context("polite requests refused beside it", refused(politeBeside), ""),
    context("greedy requests sent", sum(greedy, "sent"), ""),
    context("greedy requests refused", refused(greedy), ""),
    atLeast(
      "throughput beside the greedy tenant over the best",
      typical(({ best, beside }) => tokensPerSecond(beside) / tokensPerSecond(best)),
      "×",
      GOAL.throughput,
    ),
  ];
}

function isPolite({ tenant }: TenantReport): boolean {
  return tenant !== GREEDY;
}

/** Tokens a second of full batches over gRPC, with personas, against bare steps of the same model in this process. */
async function measureGrpc({ directory, onProgress }: BenchContext): Promise<Figure[]> {
  onProgress("135M shape: writing and importing random weights");
  const source = await writeSyntheticCheckpoint(join(directory, "checkpoint-135m"), LLAMA_135M);
  const imported = await importCheckpoint(source.directory, join(directory, "135m"));
  const model = await loadPackage(imported.directory);
  const { spec, weights } = model.manifest;
  using runtime = await ModelRuntime.open(
    { ...model, spec, weights },
    { slots: SLOTS, contextTokens: spec.contextTokens, table: new Float32Array(64 * spec.hidden) },
  );
  await using worker = await ServedWorker.start({
    directory: join(directory, "worker-135m"),
    model: imported.directory,
    tenants: POLITE.slice(0, 1),
    personasPerTenant: PERSONAS_PER_TENANT,
    flags: { slots: String(SLOTS) },
  });
  const step = decodeStep(runtime, SLOTS, OWN.position);
  const own: number[] = [];
  const served: number[] = [];
  const tenant = POLITE[0] as string;
  for (let block = 0; block < OWN.blocks; block++) {
    onProgress(`135M shape, batch ${SLOTS}: own steps and gRPC in turns, ${block + 1} of ${OWN.blocks}`);
    const started = performance.now();
    for (let i = 0; i < OWN.steps; i++) await step();
    own.push((1000 * OWN.steps * SLOTS) / (performance.now() - started));
    const { tenants } = await makeLoad({
      address: worker.process.address,
      seconds: OWN.seconds,
      seed: block,
      corpus: Array.from({ length: OWN.prompt * 100 }, (_, i) => 300 + ((i * 7919) % 1000)),
      // Random weights make flat distributions; what drawing from those costs is not the question.
      temperature: 0,
      promptTokens: [OWN.prompt],
      replyTokens: [spec.contextTokens - OWN.prompt],
      tenants: [
        {
          tenant,
          arrivals: { kind: "streams", count: SLOTS },
          token: await worker.token(tenant),
          personas: worker.personas(tenant),
        },
      ],
    });
    // Prompts are read before; what is between two tokens of a stream is a step of the full batch.
    served.push((1000 * SLOTS) / Latencies.merged(tenants.map(({ betweenTokens }) => betweenTokens)).at(50));
  }
  return [
    context(`135M shape: bare steps at batch ${SLOTS}`, median(own), "tokens/s"),
    context(`135M shape: over gRPC, ${PERSONAS_PER_TENANT} personas`, median(served), "tokens/s"),
    atLeast(
      "135M shape: over gRPC over bare steps",
      median(served.map((rate, block) => rate / (own[block] as number))),
      "×",
      GOAL.grpc,
    ),
  ];
}

function finishedPerSecond(report: LoadReport): number {
  return sum(report.tenants, "finished") / report.seconds;
}

function tokensPerSecond(report: LoadReport): number {
  return sum(report.tenants, "tokens") / report.seconds;
}

function sum(tenants: readonly TenantReport[], field: "sent" | "finished" | "tokens"): number {
  return tenants.reduce((total, tenant) => total + tenant[field], 0);
}

function refused(tenants: readonly TenantReport[]): number {
  return tenants.reduce((total, { refused: reasons }) => total + Object.values(reasons).reduce((a, b) => a + b, 0), 0);
}

function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}
