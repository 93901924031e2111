import type { MessageInitShape } from "@bufbuild/protobuf";
import type { CompositionSchema } from "@persona-mesh/protocol/registry";
import { z } from "zod";

const number = z.number().nullable();
/** `CompositionDescription` of packages/steering, without what nobody asks for. */
const composition = z.object({
  outcome: z.string(),
  factor: z.number().default(1),
  totalDose: number.default(null),
  layers: z
    .array(
      z.object({
        layer: z.number(),
        terms: z.array(z.number()),
        gram: z.array(number),
        referenceNorm: number,
        writtenDose: number,
        dose: number,
      }),
    )
    .default([]),
  findings: z.array(z.object({ reason: z.string(), message: z.string() })).default([]),
});

/** What packages/steering made of a revision, as it is read back. */
export type StoredComposition = z.infer<typeof composition>;

/** @param stored - the column `composition`. @throws ZodError for what no registry has written */
export function readComposition(stored: unknown): StoredComposition {
  return composition.parse(stored);
}

/** For callers and workers. A figure that JSON could not say is 0: what was accepted has none. */
export function compositionMessage(
  { outcome, factor, totalDose, layers, findings }: StoredComposition,
  capHundredths: number,
): MessageInitShape<typeof CompositionSchema> {
  return {
    outcome,
    factor,
    totalDose: totalDose ?? 0,
    capHundredths,
    layers: layers.map(({ layer, terms, gram, referenceNorm, writtenDose, dose }) => ({
      layer,
      terms,
      gram: gram.map((value) => value ?? 0),
      referenceNorm: referenceNorm ?? 0,
      writtenDose: writtenDose ?? 0,
      dose: dose ?? 0,
    })),
    findings: findings.map(({ reason, message }) => ({ reason, message })),
  };
}
