import { createHash } from "node:crypto";
import { gainAt, type RowSteering } from "../engine/row-steering.ts";
import type { Phase } from "../scheduler/index.ts";

/** The key of a tenant's empty prefix: chains that begin with it meet no other tenant's. */
export function emptyPrefixKey(tenant: string): string {
  return createHash("sha256").update(`tenant ${tenant}`).digest("hex");
}

/**
 * The key of a prefix that is one chunk longer. It stands for everything that its keys and values depend on: the tenant,
 * every token up to here, and the steering that acted on each of the chunks.
 *
 * @param acted - see {@link steeringKey}
 */
export function longerPrefixKey(prefix: string, tokens: Int32Array, acted: string): string {
  const bytes = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
  // Neither the key nor the steering has a line break: no two chunks hash the same text.
  return createHash("sha256").update(`${prefix}\n${acted}\n`).update(bytes).digest("hex");
}

/**
 * What of a row's steering acts on positions of a phase: rows, gain and mode; "" where nothing does, so that all
 * of a tenant's requests whose personas do not act on their prompts share those.
 */
export function steeringKey(steering: RowSteering, phase: Phase): string {
  const gain = gainAt(steering, phase);
  if (gain === 0 || steering.lease === undefined) return "";
  return `${steering.lease.revision} ${gain} ${steering.renorm ? "ADD_RENORM" : "ADD"}`;
}
