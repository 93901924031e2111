import { createHash } from "node:crypto";

/** Whole. */
const BASIS_POINTS = 10_000;

/**
 * Whether a reply is among the share that gets a twin: drawn from its id, so that whoever has the id can tell, and a share of any
 * stream of requests is even.
 *
 * @param shareBasisPoints - 0 to 10,000
 */
export function isTwinned(jobId: string, shareBasisPoints: number): boolean {
  const drawn = createHash("sha256").update(jobId).digest().readUInt32LE(0) % BASIS_POINTS;
  return drawn < shareBasisPoints;
}
