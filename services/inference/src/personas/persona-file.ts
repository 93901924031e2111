import { z } from "zod";
import { guardOfFile, servingOfFile } from "./serving-file.ts";

/** Most personas of one tenant: their composed rows are held in memory. */
const MAX_PERSONAS = 1000;

/** Ids of tenants and personas, as resource names have them. */
export const RESOURCE_ID = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** A plain file name in the tenant's own folder: nothing that could lead out of it. */
const FILE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

const alpha = z.number().min(-10).max(10);

const term = z.strictObject({
  /** File of the vector version, in the tenant's folder. */
  vector: z.string().regex(FILE_NAME, "a plain file name in the tenant's folder"),
  /** Signed share of the reference norm, at most two decimals. */
  alpha,
  /** @default every layer of the vector */
  layers: z.array(z.int().min(0)).min(1).optional(),
});

const persona = z.strictObject({
  name: z.string().regex(RESOURCE_ID, "lower-case letters, digits and hyphens, at most 63, beginning with a letter"),
  mode: z.enum(["ADD", "ADD_RENORM"]).default("ADD"),
  positions: z.enum(["ALL", "PROMPT", "GENERATED"]).default("ALL"),
  policy: z.enum(["ACCEPT", "SCALE", "ORTHOGONALIZE", "REJECT"]).default("REJECT"),
  terms: z.array(term).min(1),
});

/** One tenant's personas: the content of `TENANT/personas.json`. */
export const personaFile = z
  .strictObject({
    /** Where the text goes, which caps alpha. */
    context: z.enum(["CUSTOMER_FACING", "INTERNAL"]).default("CUSTOMER_FACING"),
    /** The tenant's own cap, lower than the context's. */
    alphaCap: z.number().min(0).max(1).optional(),
    /** Name of the tenant's active persona; null for none. */
    active: z.string().nullable().default(null),
    /** How replies are guarded. */
    guard: guardOfFile,
    /** What the tenant may take of the worker. */
    serving: servingOfFile,
    personas: z.array(persona).max(MAX_PERSONAS),
  })
  .superRefine(({ personas, active }, context) => {
    const names = new Set<string>();
    for (const [index, { name }] of personas.entries()) {
      if (names.has(name)) {
        context.addIssue({ code: "custom", path: ["personas", index, "name"], message: `"${name}" is there twice` });
      }
      names.add(name);
    }
    if (active !== null && !names.has(active)) {
      context.addIssue({ code: "custom", path: ["active"], message: `no persona is named "${active}"` });
    }
  })
  .transform(({ guard, serving, ...file }) => ({ ...file, serving: { ...serving, guard } }));

export type PersonaFile = z.infer<typeof personaFile>;
export type PersonaDefinition = PersonaFile["personas"][number];
