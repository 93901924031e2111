import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { importCheckpoint, loadPackage } from "@persona-mesh/model";
import { ModelRuntime } from "@persona-mesh/model/runtime";
import { atLeast, atMost, context, type Figure } from "../figure.ts";
import { DESK_TEMPERATURE, deskCorpus } from "../load/desk-corpus.ts";
import type { LoadReport, TenantLoad, TenantReport } from "../load/load-plan.ts";
import { makeLoad } from "../load/make-load.ts";
import { ServedWorker } from "../load/served-worker.ts";
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

/** Of the comparison with the engine's own speed: one prompt, and a reply that lasts as long as the measurement. */
const OWN = { prompt: 8, seconds: 12, blocks: 3, steps: 40, position: 128 };

export const loadBench: Bench = {
  name: "load",
  description: "8 tenants with 64 personas on one worker: what a greedy one costs the others; speed over gRPC",
  options: {
    seconds: { description: "of each of the three loads", default: "60" },
    seed: { description: "of arrivals and prompts", default: "1" },
  },
  run: async (bench) => {
    const seconds = Number(bench.options["seconds"]);
    if (!(seconds >= 5 && seconds <= 3600)) throw new Error("--seconds is a number from 5 to 3600");
    return [...(await measureFairness(seconds, bench)), ...(await measureGrpc(bench))];
  },
};

async function measureFairness(seconds: number, { directory, onProgress, options }: BenchContext): Promise<Figure[]> {
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
  const load = async (tenants: readonly (readonly [string, TenantLoad["arrivals"]])[]) =>
    makeLoad({
      address: worker.process.address,
      seconds,
      seed: Number(options["seed"]),
      corpus,
      temperature: DESK_TEMPERATURE,
      promptTokens: PROMPTS,
      replyTokens: REPLIES,
      tenants: await Promise.all(
        tenants.map(async ([tenant, arrivals]) => ({
          tenant,
          arrivals,
          token: await worker.token(tenant),
          personas: worker.personas(tenant),
        })),
      ),
    });
  onProgress(`${seconds} s with every slot in use: the capacity`);
  const best = await load(
    [...POLITE, GREEDY].map((tenant) => [tenant, { kind: "streams", count: STREAMS_PER_TENANT }]),
  );
  const capacity = finishedPerSecond(best);
  const polite = POLITE.map(
    (tenant) => [tenant, { kind: "rate", perSecond: (POLITE_SHARE * capacity) / POLITE.length }] as const,
  );
  onProgress(
    `${seconds} s of polite tenants alone, ${percent(POLITE_SHARE)} of ${capacity.toFixed(1)} requests a second`,
  );
  const alone = await load(polite);
  onProgress(`${seconds} s of the same beside a greedy tenant at ${percent(GREEDY_SHARE)}`);
  const beside = await load([...polite, [GREEDY, { kind: "rate", perSecond: GREEDY_SHARE * capacity }]]);
  const isPolite = ({ tenant }: TenantReport) => tenant !== GREEDY;
  const worst = (report: LoadReport, kind: "firstToken" | "betweenTokens" | "queue", percentile: "p50" | "p99") =>
    Math.max(...report.tenants.filter(isPolite).map((tenant) => tenant[kind][percentile]));
  const times = (["firstToken", "betweenTokens"] as const).flatMap((kind) => {
    const name = kind === "firstToken" ? "time to first token" : "time between tokens";
    const [before, after] = [worst(alone, kind, "p99"), worst(beside, kind, "p99")];
    return [
      context(`polite tenants alone, ${name}, p50 of the worst off`, worst(alone, kind, "p50"), "ms"),
      context(`polite tenants alone, ${name}, p99 of the worst off`, before, "ms"),
      context(`beside the greedy one, ${name}, p50 of the worst off`, worst(beside, kind, "p50"), "ms"),
      context(`beside the greedy one, ${name}, p99 of the worst off`, after, "ms"),
      atMost(`beside the greedy one over alone, ${name}, p99`, after / before, "×", GOAL.politeP99),
    ];
  });
  const greedy = beside.tenants.filter((tenant) => !isPolite(tenant));
  return [
    context("capacity", capacity, "requests/s"),
    context("capacity, tokens of replies", tokensPerSecond(best), "tokens/s"),
    ...times,
    context("polite tenants alone, in the queue, p99 of the worst off", worst(alone, "queue", "p99"), "ms"),
    context("beside the greedy one, in the queue, p50 of the worst off", worst(beside, "queue", "p50"), "ms"),
    context("beside the greedy one, in the queue, p99 of the worst off", worst(beside, "queue", "p99"), "ms"),
    context("polite requests sent beside the greedy tenant", sum(beside.tenants.filter(isPolite), "sent"), ""),
    context("polite requests refused beside it", refused(beside.tenants.filter(isPolite)), ""),
    context("greedy requests sent", sum(greedy, "sent"), ""),
    context("greedy requests refused", refused(greedy), ""),
    atLeast(
      "throughput beside the greedy tenant over the best",
      tokensPerSecond(beside) / tokensPerSecond(best),
      "×",
      GOAL.throughput,
    ),
  ];
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
    served.push((1000 * SLOTS) / (tenants[0] as TenantReport).betweenTokens.p50);
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
