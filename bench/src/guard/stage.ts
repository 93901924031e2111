import { extractVector, type InferenceClient } from "@persona-mesh/client";
import type { VectorVersion } from "@persona-mesh/steering";
import type { Desk } from "../../../demo/src/desk.ts";
import { randomPersona, trialPersona } from "../../../demo/src/random-directions.ts";
import type { Persona } from "./guarded-replies.ts";

/** Something that replies are steered with. */
export interface Series {
  readonly name: string;
  /** Which tone replies are judged by. */
  readonly tone: string;
  /** What the desk recommends, the upper end of the validated range; undefined for what nobody would wear. */
  readonly recommended: number | undefined;
  persona(alpha: number, reply: number): Persona;
}

/** What every part of the bench needs. */
export interface GuardStage {
  /** With the role service of the platform. */
  readonly client: InferenceClient;
  readonly desk: Desk;
  /** Personas of the desk, as the demo learns them. */
  readonly tones: readonly Series[];
  /** Directions at random, in turn, of the size of the first tone's. */
  readonly random: Series;
  readonly onProgress: (text: string) => void;
}

/** As a desk would sample; the personas were swept at it. */
export const TEMPERATURE = 0.6;

const RANDOM_DIRECTIONS = 16;
const FIRST_SEED = 11;

export async function setStage(
  client: InferenceClient,
  desk: Desk,
  onProgress: (text: string) => void,
): Promise<GuardStage> {
  const cheerful = await learn(client, desk, "cheerful");
  const gloomy = await learn(client, desk, "gloomy");
  const random: Series = {
    name: "random",
    tone: cheerful.tone,
    recommended: undefined,
    persona: (alpha, reply) => randomPersona(cheerful.version, alpha, FIRST_SEED + (reply % RANDOM_DIRECTIONS)),
  };
  return { client, desk, tones: [cheerful, gloomy], random, onProgress };
}

async function learn(
  client: InferenceClient,
  desk: Desk,
  tone: string,
): Promise<Series & { readonly version: VectorVersion }> {
  const choice = desk.recommended[tone];
  const pairs = desk.pairs[tone];
  if (choice === undefined || pairs === undefined) throw new Error(`the desk has no tone "${tone}"`);
  const { layers, alpha, mode } = choice;
  const options = { name: tone, pairs, baseline: desk.baseline, layers, createdBy: "bench" };
  const { version } = await extractVector(client, options);
  return { name: tone, tone, version, recommended: alpha, persona: (at) => trialPersona(version, at, mode) };
}
