import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { extractVector, InferenceClient } from "@persona-mesh/client";
import { importCheckpoint, loadPackage, loadTokenizer } from "@persona-mesh/model";
import { coherence, coherenceBaseline } from "@persona-mesh/steering";
import { type Desk, readDesk, STARTER } from "../../../demo/src/desk.ts";
import { trialPersona } from "../../../demo/src/random-directions.ts";
import { context, type Figure } from "../figure.ts";
import { ServedWorker } from "../load/served-worker.ts";
import { LongReplies, type LongReply } from "../long-context/long-replies.ts";
import { bootstrapInterval, median } from "../statistics.ts";
import type { Bench, BenchContext } from "./bench.ts";

const TONE = "cheerful";

/** Tokens of a part of the reply whose means are compared. */
const PART = 96;

/** Tokens that a window rebuilt from its text keeps of the reply. */
const WINDOW = 96;

/** How far the last parts may be from the first ones. */
const GOAL_PERCENT = 10;

export const longContextBench: Bench = {
  name: "long-context",
  description: "projection, entropy and coherence by position over the whole context, for every mode",
  options: { replies: { description: "per mode, at least 8", default: "96" } },
  run: async (bench) => {
    const replies = Number(bench.options["replies"]);
    if (!(Number.isSafeInteger(replies) && replies >= 8 && replies <= 1000)) {
      throw new Error("--replies is a whole number from 8 to 1000");
    }
    return measure(replies, bench);
  },
};

async function measure(count: number, { directory, onProgress }: BenchContext): Promise<Figure[]> {
  onProgress("importing the starter model, starting a worker, learning a persona");
  const model = await importCheckpoint(fileURLToPath(STARTER), join(directory, "starter"));
  await using worker = await ServedWorker.start({
    directory: join(directory, "worker"),
    model: model.directory,
    tenants: [],
    personasPerTenant: 0,
    flags: { slots: "16" },
  });
  using client = new InferenceClient({ address: worker.process.address, token: await worker.serviceToken() });
  const desk = readDesk();
  const { version, alpha } = await learn(client, desk);
  const add = trialPersona(version, alpha, "ADD");
  const renorm = trialPersona(version, alpha, "ADD_RENORM");
  const prompts = Array.from({ length: count }, (_, i) => desk.prompts[i % desk.prompts.length]?.text ?? "");
  const text = await loadTokenizer(await loadPackage(model.directory));
  const { contextTokens } = worker.model;
  const replies = new LongReplies({ client, text, contextTokens, prompts, onProgress });

  // Gain 0 measures the projection and adds nothing: the unsteered model, with the same instrument.
  const unsteered = await replies.of("unsteered", { ...add, gain: 0 });
  const modes = {
    ADD: await replies.of("ADD", add),
    ADD_RENORM: await replies.of("ADD_RENORM", renorm),
    [`ADD, windows of ${WINDOW} rebuilt`]: await replies.of("ADD, windows", add, WINDOW),
  };
  const parts = Math.floor(
    Math.min(...[unsteered, ...Object.values(modes)].flat().map(({ ids }) => ids.length)) / PART,
  );
  const plain = byPart(unsteered, parts);
  const baselines = plain.map((part) => coherenceBaseline(part.map(asReply)));
  const measured = (replies: readonly LongReply[]) =>
    byPart(replies, parts).map((part, index) => ({
      projection: part.map(({ projection }) => projection),
      entropy: part.map(({ servedEntropies }) => mean(servedEntropies)),
      coherence: part.map((slice) => coherence(asReply(slice), at(baselines, index)).score),
    }));
  const own = measured(unsteered);
  const figures: Figure[] = [context("tokens of a part", PART, "tokens"), context("parts of a reply", parts, "")];
  for (const [mode, replies] of Object.entries({ unsteered, ...modes })) {
    const steered = measured(replies);
    /** What the persona adds to the projection. Of a part, over some of the replies. */
    const projection = (part: number, of: readonly number[]) =>
      median(of.map((reply) => at(at(steered, part).projection, reply))) -
      median(of.map((reply) => at(at(own, part).projection, reply)));
    const average = (values: readonly number[], of: readonly number[]) => mean(of.map((reply) => at(values, reply)));
    // Beyond the length that a model was trained to write, its own text falls apart too.
    const relative = (part: number, of: readonly number[]) =>
      average(at(steered, part).coherence, of) / average(at(own, part).coherence, of);
    const all = replies.map((_, reply) => reply);
    for (let part = 0; part < parts; part++) {
      const label = (name: string) => `${mode}: ${name}, tokens ${part * PART} to ${(part + 1) * PART - 1}`;
      figures.push(
        context(label("projection"), projection(part, all), ""),
        context(label("entropy"), average(at(steered, part).entropy, all), "nats"),
        context(label("coherence"), average(at(steered, part).coherence, all), ""),
      );
    }
    if (mode === "unsteered") continue;
    for (const [name, value] of Object.entries({ projection, "coherence over the unsteered model's": relative })) {
      const change = (of: readonly number[]) => 100 * (value(parts - 1, of) / value(0, of) - 1);
      const { low, high } = bootstrapInterval(replies.length, change);
      figures.push(
        {
          name: `${mode}: ${name}, last part against the first`,
          value: change(all),
          unit: "%",
          goal: `within ±${GOAL_PERCENT}`,
          met: Math.abs(change(all)) <= GOAL_PERCENT,
        },
        context(`${mode}: ${name}, the same, 95 % from`, low, "%"),
        context(`${mode}: ${name}, the same, 95 % to`, high, "%"),
      );
    }
  }
  const rebuilt = [...modes.ADD, ...modes.ADD_RENORM].map((reply) => reply.rebuilt ?? 0);
  figures.push(
    context("largest change of a log-probability when all is rebuilt from the text", Math.max(...rebuilt), "nats"),
  );
  return figures;
}

async function learn(client: InferenceClient, desk: Desk) {
  const { layers, alpha } = desk.recommended[TONE] as Desk["recommended"][string];
  const pairs = desk.pairs[TONE] as Desk["pairs"][string];
  const { version } = await extractVector(client, {
    name: TONE,
    pairs,
    baseline: desk.baseline,
    layers,
    createdBy: "bench",
  });
  return { version, alpha };
}

/** One part of one reply. */
interface Slice {
  readonly ids: readonly number[];
  /** As the model says that writes. */
  readonly servedEntropies: readonly number[];
  /** As the unsteered model says that reads it. */
  readonly entropies: readonly number[];
  readonly logProbs: readonly number[];
  /** Mean over tokens and layers. */
  readonly projection: number;
}

/** @returns by part, then by reply */
function byPart(replies: readonly LongReply[], parts: number): Slice[][] {
  return Array.from({ length: parts }, (_, part) => {
    const cut = <T>(values: readonly T[]) => values.slice(part * PART, (part + 1) * PART);
    return replies.map((reply) => ({
      ids: cut(reply.ids),
      servedEntropies: cut(reply.servedEntropies),
      entropies: cut(reply.entropies),
      logProbs: cut(reply.logProbs),
      projection: mean(cut(reply.projections)),
    }));
  });
}

function asReply({ ids, entropies, logProbs }: Slice) {
  return { tokenIds: ids, entropies, logProbs };
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length;
}

function at<T>(values: readonly T[], index: number): T {
  return values[index] as T;
}
