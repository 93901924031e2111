import type { LoadedPersona } from "../personas/loaded-persona.ts";

/** A loaded persona whose rows are what a test says, of the tests' own making. */
export function personaOf(
  revision: string,
  rows: ReadonlyMap<number, Float32Array>,
  changes: Partial<LoadedPersona> = {},
): LoadedPersona {
  return {
    name: `tenants/acme/personas/${revision}`,
    revision,
    revisionName: `tenants/acme/personas/${revision}/revisions/1`,
    rowsId: revision,
    mode: "ADD",
    positions: "ALL",
    versionDigests: [],
    outcome: "ACCEPTED",
    factor: 1,
    rows,
    doses: [...rows.keys()].map((layer) => ({ layer, dose: 0.5, referenceNorm: 2 })),
    largestAlphaHundredths: 50,
    ...changes,
  };
}

/** A row along the first axis. */
export function rowAlong(hidden: number, length: number): Float32Array {
  const row = new Float32Array(hidden);
  row[0] = length;
  return row;
}
