import { create } from "@bufbuild/protobuf";
import { type GateFinding, GateFindingSchema } from "@persona-mesh/protocol/registry";
import { isReason, ServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import type { Tx } from "../database/tx.ts";
import { type RevisionKey, revisionName } from "./read-revision.ts";

/** One thing that stands between a revision and production, as the database sees it. */
export interface GateRow {
  /** Null for the whole. */
  readonly term: number | null;
  readonly reason: string;
  readonly message: string;
}

/** What stands in the way of a revision now; empty when nothing does. */
export async function personaGate(db: Tx, key: RevisionKey): Promise<readonly GateRow[]> {
  return (await personaGates(db, key, [key.number])).get(key.number) ?? [];
}

/** The same for several revisions of a persona, by number; those with nothing in their way are left out. */
export async function personaGates(
  db: Tx,
  { tenant, persona }: Pick<RevisionKey, "tenant" | "persona">,
  numbers: readonly number[],
): Promise<ReadonlyMap<number, readonly GateRow[]>> {
  const { rows } = await sql<GateRow & { readonly number: number }>`
    SELECT n.number, g.term, g.reason, g.message
    FROM unnest(${numbers}::integer[]) AS n (number), persona_gate(${tenant}, ${persona}, n.number) g
    ORDER BY g.term NULLS LAST, g.reason, g.message`.execute(db);
  return Map.groupBy(rows, ({ number }) => number);
}

export function gateMessages(findings: readonly GateRow[]): GateFinding[] {
  return findings.map(({ term, reason, message }) =>
    create(GateFindingSchema, { reason, message, ...(term === null ? {} : { term }) }),
  );
}

/** Whether approval alone is missing: what break-glass can skip. */
export function lacksOnlyApproval(findings: readonly GateRow[]): boolean {
  return findings.every(({ reason }) => reason === "NOT_APPROVED");
}

/** So many findings are told in an error; the revision itself lists all of them. */
const MAX_TOLD = 8;

/** The refusal of a revision whose gate is closed: under the first finding's reason, with all of them. */
export function gateRefusal(key: RevisionKey, findings: readonly GateRow[]): ServiceError {
  // What break-glass cannot skip comes first: who only lacks approvals sees that.
  const first = findings.find(({ reason }) => reason !== "NOT_APPROVED") ?? (findings[0] as GateRow);
  const told = findings
    .slice(0, MAX_TOLD)
    .map(({ term, reason, message }) => `[${reason}] ${term === null ? "" : `term ${term + 1}: `}${message}`);
  const more = findings.length > told.length ? `; and ${findings.length - told.length} more` : "";
  return new ServiceError(
    isReason(first.reason) ? first.reason : "NOT_COMPOSED",
    `"${revisionName(key)}" cannot be in production: ${told.join("; ")}${more}`,
    {
      metadata: {
        resource: revisionName(key),
        findings: String(findings.length),
        ...Object.fromEntries(told.map((text, index) => [`finding${index}`, text])),
      },
    },
  );
}
