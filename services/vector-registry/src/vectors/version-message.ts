import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type VersionSchema, VersionState } from "@persona-mesh/protocol/registry";
import type { Selectable } from "kysely";
import { approvalSummaries } from "../approvals/approval-summary.ts";
import type { VersionsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { VERSION_NAME } from "../resource-name.ts";
import { evaluationMessage, readStandings, type Standing } from "./version-standing.ts";

type VersionRow = Selectable<VersionsTable>;
type VersionInit = MessageInitShape<typeof VersionSchema>;

/** A version as callers see it, as it stands now. */
export async function versionMessage(db: Tx, row: VersionRow): Promise<VersionInit> {
  const [message] = await versionMessages(db, row.tenant, [row]);
  return message as VersionInit;
}

/** Versions of one tenant, in their order: as many statements for a page of them as for one. */
export async function versionMessages(db: Tx, tenant: string, rows: readonly VersionRow[]): Promise<VersionInit[]> {
  if (rows.length === 0) return [];
  const standings = await readStandings(db, tenant, rows);
  const approvals = await approvalSummaries(db, tenant, rows);
  return rows.map((row, at) => ({
    ...contentOf(row),
    ...standingOf(standings[at] as Standing),
    approval: approvals[at] as NonNullable<(typeof approvals)[number]>,
  }));
}

/** What a version is, for good. */
function contentOf(row: VersionRow) {
  const { tenant, vector, digest } = row;
  return {
    name: VERSION_NAME.format({ tenant, vector, digest }),
    digest,
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
    createTime: timestampFromDate(row.created_at),
  };
}

/** What has come of it since. */
function standingOf({ sizeBytes, evaluation, revocation }: Standing) {
  return {
    sizeBytes: BigInt(sizeBytes),
    ...(evaluation === undefined ? {} : { evaluation: evaluationMessage(evaluation) }),
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
  };
}
