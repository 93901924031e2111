import { createHash } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { EXTRACTOR_VERSION, type ExtractedManifest, encodeVector, VECTOR_FORMAT_VERSION } from "@persona-mesh/steering";
import { unitDirection } from "./random.ts";
import type { ServedModel } from "./served-model.ts";

/** A persona of one vector, whose directions come from a seed. */
export interface TestPersona {
  readonly name: string;
  /** Other seed, other vector. */
  readonly seed: number;
  readonly layers: readonly number[];
  /** @default 0.4 */
  readonly alpha?: number;
  readonly mode?: "ADD" | "ADD_RENORM";
  readonly positions?: "ALL" | "PROMPT" | "GENERATED";
}

export interface TenantOptions {
  /** @default null */
  readonly active?: string | null;
  /** @default "CUSTOMER_FACING" */
  readonly context?: "CUSTOMER_FACING" | "INTERNAL";
  /** As the file has it; what is left out is the default. */
  readonly guard?: Readonly<Record<string, unknown>>;
  /** What the tenant may take, as the file has it; what is left out is the default. */
  readonly serving?: Readonly<Record<string, number>>;
}

/** Write a tenant's personas where the worker reads them; the rename of the last file puts all in force at once. */
export async function writeTenant(
  personasDir: string,
  tenant: string,
  served: ServedModel,
  personas: readonly TestPersona[],
  { active = null, context = "CUSTOMER_FACING", guard = {}, serving = {} }: TenantOptions = {},
): Promise<void> {
  const folder = join(personasDir, tenant);
  await mkdir(folder, { recursive: true });
  for (const persona of personas) await replaceFile(join(folder, vectorFile(persona)), vectorBytes(served, persona));
  const entries = personas.map((persona) => ({
    name: persona.name,
    mode: persona.mode ?? "ADD",
    positions: persona.positions ?? "ALL",
    terms: [{ vector: vectorFile(persona), alpha: persona.alpha ?? 0.4 }],
  }));
  await replaceFile(
    join(folder, "personas.json"),
    JSON.stringify({ context, active, guard, serving, personas: entries }),
  );
}

/** Readers see the old file or the new one, never a part. */
export async function replaceFile(path: string, content: string | Uint8Array): Promise<void> {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

export function vectorFile({ name, seed }: Pick<TestPersona, "name" | "seed">): string {
  return `${name}-${seed}.safetensors`;
}

/** A vector file for the served model; `changes` makes it one for another. */
export function vectorBytes(
  { model, referenceNorms }: ServedModel,
  { name, seed, layers }: Pick<TestPersona, "name" | "seed" | "layers">,
  changes: Partial<ExtractedManifest> = {},
): Uint8Array {
  const hiddenSize = changes.hiddenSize ?? model.hiddenSize;
  const directions = new Map(layers.map((layer) => [layer, unitDirection(seed * 1000 + layer, hiddenSize)]));
  const digest = (what: string) => createHash("sha256").update(what).digest("hex");
  const quality = { pairwiseCosine: 1, auc: 1, rightSignShare: 1, splitHalfCosine: 1, normBefore: 1, removedCosine: 0 };
  return encodeVector({
    manifest: {
      formatVersion: VECTOR_FORMAT_VERSION,
      name,
      modelChecksum: model.modelChecksum,
      graphDigest: model.graphDigest,
      hiddenSize,
      layerCount: model.layers,
      site: "post_block",
      layers,
      referenceNorms: layers.map((layer) => Math.fround(referenceNorms[layer] as number)),
      method: "MEAN_DIFF",
      pooling: "response_mean",
      extractorVersion: EXTRACTOR_VERSION,
      pairCount: 1,
      pairsDigest: digest(`pairs ${seed}`),
      baselineDigest: digest("baseline"),
      quality: layers.map(() => quality),
      ...changes,
    },
    directions,
  });
}

/** Resource name. */
export function personaName(tenant: string, persona: string): string {
  return `tenants/${tenant}/personas/${persona}`;
}
