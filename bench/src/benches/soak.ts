import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { importCheckpoint } from "@persona-mesh/model";
import { atMost, context, type Figure } from "../figure.ts";
import { DESK_TEMPERATURE, deskCorpus } from "../load/desk-corpus.ts";
import { makeLoad } from "../load/make-load.ts";
import { ServedWorker } from "../load/served-worker.ts";
import { processMemory } from "../peers/process-memory.ts";
import type { Bench, BenchContext } from "./bench.ts";

const STARTER = fileURLToPath(new URL("../../../models/starter", import.meta.url));

const TENANTS = Array.from({ length: 8 }, (_, index) => `tenant-${index}`);
const PERSONAS_PER_TENANT = 8;
const STREAMS_PER_TENANT = 3;
const PROMPTS = [16, 48, 160, 320];
const REPLIES = [16, 48, 96];

/** Caches fill and code is compiled in this share of the time. */
const WARM_UP_SHARE = 1 / 3;
const SAMPLE_MILLIS = 2_000;
const GOAL = 1;

export const soakBench: Bench = {
  name: "soak",
  description: "a worker under full load for minutes: how its memory grows after warm-up",
  options: { minutes: { description: "of load", default: "5" } },
  run: async (bench) => {
    const minutes = Number(bench.options["minutes"]);
    if (!(minutes >= 0.5 && minutes <= 600)) throw new Error("--minutes is a number from 0.5 to 600");
    return measure(minutes, bench);
  },
};

async function measure(minutes: number, { directory, onProgress }: BenchContext): Promise<Figure[]> {
  onProgress("importing the starter model, starting a worker");
  const model = await importCheckpoint(STARTER, join(directory, "starter"));
  await using worker = await ServedWorker.start({
    directory: join(directory, "worker"),
    model: model.directory,
    tenants: TENANTS,
    personasPerTenant: PERSONAS_PER_TENANT,
    flags: {},
  });
  const started = performance.now();
  const samples: { readonly minute: number; readonly megabytes: number }[] = [];
  const sample = () => {
    const minute = (performance.now() - started) / 60_000;
    samples.push({ minute, megabytes: processMemory(worker.process.pid).resident / 1e6 });
    const { megabytes } = samples.at(-1) as (typeof samples)[number];
    onProgress(`${minute.toFixed(1)} of ${minutes} min, resident ${megabytes.toFixed(0)} MB`);
  };
  const timer = setInterval(sample, SAMPLE_MILLIS);
  let report: Awaited<ReturnType<typeof makeLoad>>;
  try {
    report = await makeLoad({
      address: worker.process.address,
      seconds: 60 * minutes,
      seed: 1,
      corpus: await deskCorpus(model.directory),
      temperature: DESK_TEMPERATURE,
      promptTokens: PROMPTS,
      replyTokens: REPLIES,
      tenants: await Promise.all(
        TENANTS.map(async (tenant) => ({
          tenant,
          arrivals: { kind: "streams" as const, count: STREAMS_PER_TENANT },
          token: await worker.token(tenant),
          personas: worker.personas(tenant),
        })),
      ),
    });
  } finally {
    clearInterval(timer);
  }
  const warm = samples.filter(({ minute }) => minute >= WARM_UP_SHARE * minutes);
  const last = samples.at(-1)?.megabytes ?? 0;
  return [
    context("minutes", minutes, ""),
    context(
      "requests finished",
      report.tenants.reduce((total, { finished }) => total + finished, 0),
      "",
    ),
    context("resident memory after warm-up", warm[0]?.megabytes ?? 0, "MB"),
    context("resident memory at the end", last, "MB"),
    atMost("growth of resident memory after warm-up", slope(warm), "MB/min", GOAL),
  ];
}

/** Least squares, megabytes a minute. */
function slope(samples: readonly { readonly minute: number; readonly megabytes: number }[]): number {
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const x = mean(samples.map(({ minute }) => minute));
  const y = mean(samples.map(({ megabytes }) => megabytes));
  const above = samples.reduce((total, { minute, megabytes }) => total + (minute - x) * (megabytes - y), 0);
  return above / samples.reduce((total, { minute }) => total + (minute - x) ** 2, 0);
}
