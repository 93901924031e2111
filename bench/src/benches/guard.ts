import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceClient } from "@persona-mesh/client";
import { importCheckpoint } from "@persona-mesh/model";
import { ensureDevKeys, PLATFORM_TENANT, signDevToken } from "@persona-mesh/service";
import { readDesk, STARTER } from "../../../demo/src/desk.ts";
import type { Figure } from "../figure.ts";
import { loopFigures } from "../guard/loop-figures.ts";
import { refillFigures } from "../guard/refill-figures.ts";
import { type GuardStage, setStage } from "../guard/stage.ts";
import { sweepAll } from "../guard/sweep.ts";
import { sweepFigures } from "../guard/sweep-figures.ts";
import { sweepPlot } from "../guard/sweep-plot.ts";
import { falseTrips, tripsWithinRange } from "../guard/trip-figures.ts";
import { twinCost } from "../guard/twin-cost.ts";
import { ServedWorker } from "../load/served-worker.ts";
import type { Bench, BenchContext } from "./bench.ts";

export const guardBench: Bench = {
  name: "guard",
  description: "what the guard finds and changes over alpha 0 to 1.2, and what twins cost",
  options: {
    replies: { description: "per alpha and series, at least 8", default: "48" },
    svg: { description: "file to draw the sweep into; none when empty", default: "" },
  },
  run: async (bench) => {
    const replies = Number(bench.options["replies"]);
    if (!(Number.isSafeInteger(replies) && replies >= 8 && replies <= 1000)) {
      throw new Error("--replies is a whole number from 8 to 1000");
    }
    return measure(replies, bench);
  },
};

async function measure(replies: number, { directory, onProgress, options }: BenchContext): Promise<Figure[]> {
  onProgress("importing the starter model, starting a worker, learning two personas");
  const model = (await importCheckpoint(fileURLToPath(STARTER), join(directory, "starter"))).directory;
  const figures = await onWorker(
    { home: join(directory, "worker"), model, cache: "KEEP", onProgress },
    async (stage) => {
      const trips = [...(await falseTrips(stage)), ...(await tripsWithinRange(stage))];
      const loops = await loopFigures(stage);
      const swept = await sweepAll(stage, replies);
      if (options["svg"]) await writeFile(options["svg"], sweepPlot(swept));
      const refills = await refillFigures(stage, "KEEP");
      return [...trips, ...loops, ...sweepFigures(swept), ...refills, ...(await twinCost(stage))];
    },
  );
  const refilled = await onWorker(
    { home: join(directory, "refilling"), model, cache: "REPREFILL", onProgress },
    (stage) => refillFigures(stage, "REPREFILL"),
  );
  return [...figures, ...refilled];
}

interface WorkerSettings {
  /** Its folder. */
  readonly home: string;
  readonly model: string;
  /** By the policy of the platform's tenant, whose services bench. */
  readonly cache: "KEEP" | "REPREFILL";
  readonly onProgress: (text: string) => void;
}

async function onWorker(
  { home, model, cache, onProgress }: WorkerSettings,
  run: (stage: GuardStage) => Promise<Figure[]>,
): Promise<Figure[]> {
  const policy = join(home, "personas", PLATFORM_TENANT);
  await mkdir(policy, { recursive: true });
  await writeFile(join(policy, "personas.json"), JSON.stringify({ guard: { cache }, personas: [] }));
  await using worker = await ServedWorker.start({
    directory: home,
    model,
    tenants: [],
    personasPerTenant: 0,
    flags: { slots: "16" },
  });
  // Sweeps are for the platform's services alone.
  const caller = { subject: "bench", tenant: PLATFORM_TENANT, roles: ["service" as const] };
  const token = await signDevToken(await ensureDevKeys(home), caller);
  using client = new InferenceClient({ address: worker.process.address, token });
  // Awaited here: worker and client end with this function.
  return await run(await setStage(client, readDesk(), onProgress));
}
