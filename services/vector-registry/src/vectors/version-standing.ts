import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { EvaluationSchema } from "@persona-mesh/protocol/registry";
import { type Selectable, sql } from "kysely";
import { z } from "zod";
import type { EvaluationsTable, RevocationsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";

/** A version of a tenant. */
export interface VersionIds {
  readonly vector: string;
  readonly digest: string;
}

export type Evaluation = Pick<
  Selectable<EvaluationsTable>,
  "alpha_min" | "alpha_max" | "figures" | "evaluator" | "created_at"
>;
export type Revocation = Pick<Selectable<RevocationsTable>, "reason" | "revoked_by" | "revision" | "created_at">;

/** What is known of a version beside what it is. */
export interface Standing {
  readonly sizeBytes: number;
  /** The one that holds. */
  readonly evaluation: Evaluation | undefined;
  readonly revocation: Revocation | undefined;
}

/** One side of a left join: all of it, or nothing. */
type Joined<Row> = Row | { readonly [Column in keyof Row]: null };

type StandingRow = { readonly size_bytes: number } & Joined<
  Omit<Evaluation, "created_at"> & { readonly evaluated_at: Date }
> &
  Joined<Omit<Revocation, "created_at"> & { readonly revoked_at: Date }>;

/** How versions of one tenant stand, in their order, in one statement. */
export async function readStandings(
  db: Tx,
  tenant: string,
  versions: readonly VersionIds[],
): Promise<readonly Standing[]> {
  const vectors = versions.map(({ vector }) => vector);
  const digests = versions.map(({ digest }) => digest);
  const { rows } = await sql<StandingRow>`
    SELECT c.size_bytes, e.alpha_min, e.alpha_max, e.figures, e.evaluator, e.created_at AS evaluated_at,
      r.reason, r.revoked_by, r.revision, r.created_at AS revoked_at
    FROM unnest(${vectors}::text[], ${digests}::text[]) WITH ORDINALITY AS k (vector, digest, place)
    JOIN contents c ON c.tenant = ${tenant} AND c.digest = k.digest
    LEFT JOIN LATERAL (
      SELECT * FROM evaluations n WHERE n.tenant = ${tenant} AND n.vector = k.vector AND n.digest = k.digest
      ORDER BY n.number DESC LIMIT 1) e ON true
    LEFT JOIN revocations r ON r.tenant = ${tenant} AND r.digest = k.digest
    ORDER BY k.place`.execute(db);
  return rows.map((row) => ({
    sizeBytes: row.size_bytes,
    evaluation: row.evaluated_at === null ? undefined : { ...row, created_at: row.evaluated_at },
    revocation: row.revoked_at === null ? undefined : { ...row, created_at: row.revoked_at },
  }));
}

/** The evaluation that holds; undefined for a version that nobody has evaluated. */
export function newestEvaluation(
  db: Tx,
  { tenant, vector, digest }: VersionIds & { readonly tenant: string },
): Promise<Selectable<EvaluationsTable> | undefined> {
  return db
    .selectFrom("evaluations")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("vector", "=", vector)
    .where("digest", "=", digest)
    .orderBy("number", "desc")
    .limit(1)
    .executeTakeFirst();
}

const FIGURES = z.record(z.string(), z.number());

export function evaluationMessage(row: Evaluation): MessageInitShape<typeof EvaluationSchema> {
  return {
    alphaMinHundredths: row.alpha_min,
    alphaMaxHundredths: row.alpha_max,
    figures: FIGURES.parse(row.figures),
    evaluator: row.evaluator,
    createTime: timestampFromDate(row.created_at),
  };
}
