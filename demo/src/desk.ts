import { readFileSync } from "node:fs";
import { z } from "zod";
import { classifierSchema } from "./linear-classifier.ts";

/** The checkpoint that a fresh clone serves. */
export const STARTER = new URL("../../models/starter/", import.meta.url);

const sample = z.object({ prompt: z.string(), response: z.string() });
const pair = z.object({ prompt: z.string(), positive: z.string(), negative: z.string() });
const persona = z.object({
  layers: z.array(z.int().min(0)).min(1),
  alpha: z.number(),
  mode: z.enum(["ADD", "ADD_RENORM"]),
});

/** The support desk's evaluation data: what personas are learned from, and what judges them. */
export interface Desk {
  readonly pairs: Readonly<Record<string, readonly z.infer<typeof pair>[]>>;
  readonly baseline: readonly z.infer<typeof sample>[];
  /** Prompts that neither training nor extraction has seen. */
  readonly prompts: readonly { readonly text: string; readonly topic: string }[];
  /** The system line that asks for a tone. */
  readonly systemLines: Readonly<Record<string, string>>;
  readonly toneClassifier: z.infer<typeof classifierSchema>;
  readonly topicClassifier: z.infer<typeof classifierSchema>;
  /** Where and how strongly each tone steers best, from the sweep in tools/starter. */
  readonly recommended: Readonly<Record<string, z.infer<typeof persona>>>;
}

export function readDesk(): Desk {
  const read = <Output>(file: string, schema: z.ZodType<Output>): Output =>
    schema.parse(JSON.parse(readFileSync(new URL(`desk/${file}`, STARTER), "utf8")));
  const { tones } = read("pairs.json", z.object({ tones: z.record(z.string(), z.object({ pairs: z.array(pair) })) }));
  const { samples } = read("baseline.json", z.object({ samples: z.array(sample) }));
  const heldOut = read(
    "held-out.json",
    z.object({
      prompts: z.array(z.object({ text: z.string(), topic: z.string() })),
      systemLines: z.record(z.string(), z.string()),
    }),
  );
  const classifiers = read("classifiers.json", z.object({ tone: classifierSchema, topic: classifierSchema }));
  return {
    pairs: Object.fromEntries(Object.entries(tones).map(([tone, { pairs }]) => [tone, pairs])),
    baseline: samples,
    prompts: heldOut.prompts,
    systemLines: heldOut.systemLines,
    toneClassifier: classifiers.tone,
    topicClassifier: classifiers.topic,
    recommended: read("recommended.json", z.record(z.string(), persona)),
  };
}
