import { mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ExtractedVector } from "@persona-mesh/client";

/** A persona as the demo makes it: one vector at one strength. */
export interface LearnedPersona {
  readonly tone: string;
  readonly vector: ExtractedVector;
  readonly alpha: number;
  readonly mode: "ADD" | "ADD_RENORM";
}

/** Write a tenant's personas where the worker reads them. The last rename puts them in force. */
export async function writeTenant(
  personasDir: string,
  tenant: string,
  personas: readonly LearnedPersona[],
  active: string | null,
): Promise<void> {
  const folder = join(personasDir, tenant);
  await mkdir(folder, { recursive: true });
  for (const { tone, vector } of personas) await writeFile(join(folder, `${tone}.safetensors`), vector.bytes);
  const file = {
    context: "CUSTOMER_FACING",
    active,
    personas: personas.map(({ tone, alpha, mode }) => ({
      name: tone,
      mode,
      terms: [{ vector: `${tone}.safetensors`, alpha }],
    })),
  };
  const path = join(folder, "personas.json");
  await writeFile(`${path}.new`, `${JSON.stringify(file, null, 2)}\n`);
  await rename(`${path}.new`, path);
}

export function personaName(tenant: string, tone: string): string {
  return `tenants/${tenant}/personas/${tone}`;
}
