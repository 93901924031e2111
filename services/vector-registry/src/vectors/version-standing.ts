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

/** What is known of a version beside what it is. */
export interface Standing {
  readonly sizeBytes: number;
  /** The one that holds. */
  readonly evaluation: Selectable<EvaluationsTable> | undefined;
  readonly revocation: Selectable<RevocationsTable> | undefined;
}

/** How versions of one tenant stand, in their order. */
export async function readStandings(
  db: Tx,
  tenant: string,
  versions: readonly VersionIds[],
): Promise<readonly Standing[]> {
  const digests = versions.map(({ digest }) => digest);
  const isOneOfThem = sql<boolean>`digest = ANY (${digests}::text[])`;
  const sizes = await db
    .selectFrom("contents")
    .select(["digest", "size_bytes"])
    .where("tenant", "=", tenant)
    .where(isOneOfThem)
    .execute();
  const evaluations = await newestEvaluations(db, tenant, versions);
  const revocations = await db
    .selectFrom("revocations")
    .selectAll()
    .where("tenant", "=", tenant)
    .where(isOneOfThem)
    .execute();
  const sizeOf = new Map(sizes.map((row) => [row.digest, row.size_bytes]));
  const evaluationOf = new Map(evaluations.map((row) => [keyOf(row), row]));
  const revocationOf = new Map(revocations.map((row) => [row.digest, row]));
  return versions.map((version) => ({
    // Its row is there: a version refers to it.
    sizeBytes: sizeOf.get(version.digest) as number,
    evaluation: evaluationOf.get(keyOf(version)),
    revocation: revocationOf.get(version.digest),
  }));
}

/** The evaluation that holds; undefined for a version that nobody has evaluated. */
export async function newestEvaluation(
  db: Tx,
  { tenant, ...version }: VersionIds & { readonly tenant: string },
): Promise<Selectable<EvaluationsTable> | undefined> {
  const [evaluation] = await newestEvaluations(db, tenant, [version]);
  return evaluation;
}

function newestEvaluations(
  db: Tx,
  tenant: string,
  versions: readonly VersionIds[],
): Promise<Selectable<EvaluationsTable>[]> {
  const vectors = versions.map(({ vector }) => vector);
  const digests = versions.map(({ digest }) => digest);
  return db
    .selectFrom("evaluations")
    .distinctOn(["vector", "digest"])
    .selectAll()
    .where("tenant", "=", tenant)
    .where(sql<boolean>`(vector, digest) IN (SELECT * FROM unnest(${vectors}::text[], ${digests}::text[]))`)
    .orderBy("vector")
    .orderBy("digest")
    .orderBy("number", "desc")
    .execute();
}

function keyOf({ vector, digest }: VersionIds): string {
  return `${vector}/${digest}`;
}

const FIGURES = z.record(z.string(), z.number());

export function evaluationMessage(row: Selectable<EvaluationsTable>): MessageInitShape<typeof EvaluationSchema> {
  return {
    alphaMinHundredths: row.alpha_min,
    alphaMaxHundredths: row.alpha_max,
    figures: FIGURES.parse(row.figures),
    evaluator: row.evaluator,
    createTime: timestampFromDate(row.created_at),
  };
}
