import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type EvaluationSchema, type VersionSchema, VersionState } from "@persona-mesh/protocol/registry";
import type { Selectable } from "kysely";
import { z } from "zod";
import { approvalSummary } from "../approvals/approval-summary.ts";
import type { EvaluationsTable, VersionsTable } from "../database/schema.ts";
import type { Tx } from "../database/transaction.ts";
import { VERSION_NAME } from "../resource-name.ts";

type VersionRow = Selectable<VersionsTable>;

const FIGURES = z.record(z.string(), z.number());

/** A version as callers see it, as it stands now. */
export async function versionMessage(db: Tx, row: VersionRow): Promise<MessageInitShape<typeof VersionSchema>> {
  const { tenant, vector, digest } = row;
  const content = await db
    .selectFrom("contents")
    .select("size_bytes")
    .where("tenant", "=", tenant)
    .where("digest", "=", digest)
    .executeTakeFirstOrThrow();
  const evaluation = await newestEvaluation(db, row);
  const revocation = await db
    .selectFrom("revocations")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("digest", "=", digest)
    .executeTakeFirst();
  return {
    name: VERSION_NAME.format({ tenant, vector, digest }),
    digest,
    sizeBytes: BigInt(content.size_bytes),
    modelChecksum: row.model_checksum,
    graphDigest: row.graph_digest,
    tokenizerDigest: row.tokenizer_digest,
    hiddenSize: row.hidden_size,
    layerCount: row.layer_count,
    layers: row.layers,
    site: row.site,
    manifestJson: row.manifest,
    provenance: {
      pairsJson: row.pairs,
      ...(row.seed === "" ? {} : { seed: BigInt(row.seed) }),
      parentVersion:
        row.parent_digest === null ? "" : VERSION_NAME.format({ tenant, vector, digest: row.parent_digest }),
      requestedBy: row.requested_by,
      job: row.job,
      tokenizerDigest: row.tokenizer_digest,
    },
    submitter: row.submitter,
    ...(evaluation === undefined ? {} : { evaluation: evaluationMessage(evaluation) }),
    approval: await approvalSummary(db, row),
    state: revocation === undefined ? VersionState.ACTIVE : VersionState.REVOKED,
    ...(revocation === undefined
      ? {}
      : {
          revocation: {
            reason: revocation.reason,
            revokedBy: revocation.revoked_by,
            createTime: timestampFromDate(revocation.created_at),
            revision: revocation.revision,
          },
        }),
    createTime: timestampFromDate(row.created_at),
  };
}

export function newestEvaluation(
  db: Tx,
  { tenant, vector, digest }: Pick<VersionRow, "tenant" | "vector" | "digest">,
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

function evaluationMessage(row: Selectable<EvaluationsTable>): MessageInitShape<typeof EvaluationSchema> {
  return {
    alphaMinHundredths: row.alpha_min,
    alphaMaxHundredths: row.alpha_max,
    figures: FIGURES.parse(row.figures),
    evaluator: row.evaluator,
    createTime: timestampFromDate(row.created_at),
  };
}
