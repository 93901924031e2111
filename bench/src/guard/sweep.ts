import { type CoherenceBaseline, coherenceBaseline, type Reply as ScoredReply } from "@persona-mesh/steering";
import { meanCoherence, scoreUnsteered } from "../../../demo/src/judge.ts";
import { classify } from "../../../demo/src/linear-classifier.ts";
import { type GuardedReply, guardedReplies, swept, tripShare, unsteered } from "./guarded-replies.ts";
import { type GuardStage, type Series, TEMPERATURE } from "./stage.ts";

/** One setting of alpha, with or without the guard. Means over the replies. */
export interface SweepPoint {
  readonly alpha: number;
  /** By the unsteered model, 0 to 1. */
  readonly coherence: number;
  /** Of the last tokens alone: where the guard has left the reply. */
  readonly lateCoherence: number;
  /** Of the steered distribution, over the unsteered baseline. */
  readonly entropyRatio: number | undefined;
  /** To the unsteered twin, nats; undefined where no twin found room. */
  readonly kl: number | undefined;
  readonly repetition: number | undefined;
  /** Share of replies that the tone classifier gives to the tone. */
  readonly toneShare: number;
  /** Share of replies in which the guard found something. */
  readonly trips: number;
}

/** A series with the guard and without it. */
export interface SweptSeries {
  readonly name: string;
  readonly isTone: boolean;
  readonly guarded: readonly SweepPoint[];
  readonly watched: readonly SweepPoint[];
}

/** As far as an evaluation may go. */
export const MOST_ALPHA = 1.2;

const STEPS = 12;

/** Unsteered replies that coherence is scored against. */
const BASELINE_REPLIES = 200;

/** From alpha 1.2 the guard takes twelve steps of a window of 32 to get to 0; about nine of them fit. */
const MAX_TOKENS = 320;

/** The end of a reply. */
const LATE = 64;

/** Every tone, and random directions, along alpha: with a guard that only watches, then with one that acts. */
export async function sweepAll(stage: GuardStage, replies: number): Promise<SweptSeries[]> {
  const baseline = await unsteeredBaseline(stage);
  const all: SweptSeries[] = [];
  for (const series of [...stage.tones, stage.random]) {
    const run = (observeOnly: boolean) => sweep(stage, series, { baseline, replies, observeOnly });
    const { name, recommended } = series;
    all.push({ name, isTone: recommended !== undefined, watched: await run(true), guarded: await run(false) });
  }
  return all;
}

interface SweepOptions {
  readonly baseline: CoherenceBaseline;
  readonly replies: number;
  readonly observeOnly: boolean;
}

async function sweep(stage: GuardStage, series: Series, options: SweepOptions): Promise<SweepPoint[]> {
  const { client, desk, onProgress } = stage;
  const { baseline, replies: count, observeOnly } = options;
  const points: SweepPoint[] = [];
  for (let step = 0; step <= STEPS; step++) {
    const alpha = Math.round((100 * MOST_ALPHA * step) / STEPS) / 100;
    onProgress(`${series.name}, alpha ${alpha.toFixed(2)}, the guard ${observeOnly ? "watches" : "acts"}`);
    const replies = await guardedReplies(client, desk, {
      persona: (reply) => swept(series.persona(alpha, reply)),
      maxTokens: MAX_TOKENS,
      temperature: TEMPERATURE,
      observeOnly,
      twin: true,
      replies: count,
    });
    const scored = await scoreUnsteered(client, desk, replies, new AbortController().signal);
    const means = (of: (reply: GuardedReply) => number | undefined) => mean(replies.map(of));
    points.push({
      alpha,
      coherence: meanCoherence(scored, baseline),
      lateCoherence: lateCoherence(scored, baseline),
      entropyRatio: means(({ finished }) => finished.coherence?.entropyRatio),
      kl: means(({ finished }) => finished.twin?.meanKl),
      repetition: means(({ finished }) => finished.repetition),
      toneShare: replies.filter(({ text }) => classify(desk.toneClassifier, text) === series.tone).length / count,
      trips: tripShare(replies),
    });
  }
  return points;
}

async function unsteeredBaseline({ client, desk }: GuardStage): Promise<CoherenceBaseline> {
  const condition = { persona: unsteered, temperature: TEMPERATURE, observeOnly: true, twin: false };
  const replies = await guardedReplies(client, desk, { ...condition, replies: BASELINE_REPLIES });
  return coherenceBaseline(await scoreUnsteered(client, desk, replies, new AbortController().signal));
}

/** Mean score of the ends of replies. */
export function lateCoherence(replies: readonly ScoredReply[], baseline: CoherenceBaseline): number {
  return meanCoherence(replies.map(late), baseline);
}

function late({ tokenIds, entropies, logProbs }: ScoredReply): ScoredReply {
  const end = (values: ArrayLike<number>) => Array.from(values).slice(-LATE);
  return { tokenIds: end(tokenIds), entropies: end(entropies), logProbs: end(logProbs) };
}

/** Of those that are there. */
function mean(values: readonly (number | undefined)[]): number | undefined {
  const there = values.filter((value) => value !== undefined);
  return there.length === 0 ? undefined : there.reduce((sum, value) => sum + value, 0) / there.length;
}
