import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  DiffVersionsRequest,
  DiffVersionsResponseSchema,
  GetVersionContentRequest,
  GetVersionContentResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { canonicalJson, decodeVector, diffVersions as diffDecoded, type JsonValue } from "@persona-mesh/steering";
import type { Selectable } from "kysely";
import type { VersionsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import type { Registry } from "../registry.ts";
import { VERSION_NAME } from "../resource-name.ts";
import { resolveVersion, tenantOfVersion } from "./resolve-version.ts";
import { versionMessage } from "./version-message.ts";

/** A version's bytes. That they were read is in the audit before they leave. */
export async function getVersionContent(
  { transactor, readAudit }: Registry,
  { name }: GetVersionContentRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetVersionContentResponseSchema>> {
  const tenant = tenantOfVersion(name, "name");
  const { row, version, content } = await transactor.read(context, tenant, name, async (db) => {
    const found = await resolveVersion(db, name, "name");
    // Without the pairs: with them, what is bounded each by itself could be more than one message takes.
    const version = await versionMessage(db, { ...found, pairs: "" });
    return { row: found, version, content: await readContent(db, found) };
  });
  await readAudit.record([readEntry(row, context, "GetVersionContent")]);
  return { version, content };
}

/** What differs between two versions of a tenant: directions by layer, and the manifests. */
export async function diffVersions(
  { transactor, readAudit }: Registry,
  { name, otherName }: DiffVersionsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DiffVersionsResponseSchema>> {
  const tenant = tenantOfVersion(name, "name");
  if (tenantOfVersion(otherName, "other_name") !== tenant) {
    throw ServiceError.invalid([{ field: "other_name", description: "must be of the same tenant" }]);
  }
  const [one, other] = await transactor.read(context, tenant, name, async (db) => {
    const rows = [await resolveVersion(db, name, "name"), await resolveVersion(db, otherName, "other_name")] as const;
    return [
      { row: rows[0], content: await readContent(db, rows[0]) },
      { row: rows[1], content: await readContent(db, rows[1]) },
    ] as const;
  });
  await readAudit.record([one, other].map(({ row }) => readEntry(row, context, "DiffVersions")));
  const { layers, fields } = diffDecoded(decodeVector(one.content), decodeVector(other.content));
  const json = (value: JsonValue | undefined) => (value === undefined ? "" : canonicalJson(value));
  return {
    name: VERSION_NAME.format(one.row),
    otherName: VERSION_NAME.format(other.row),
    layers: layers.map(({ layer, cosine, referenceNorm, otherReferenceNorm }) => ({
      layer,
      ...(cosine === undefined ? {} : { cosine }),
      ...(referenceNorm === undefined ? {} : { referenceNorm }),
      ...(otherReferenceNorm === undefined ? {} : { otherReferenceNorm }),
    })),
    fields: fields.map(({ field, value, otherValue }) => ({
      field,
      valueJson: json(value),
      otherValueJson: json(otherValue),
    })),
  };
}

async function readContent(db: Tx, { tenant, digest }: Selectable<VersionsTable>): Promise<Uint8Array> {
  const { bytes } = await db
    .selectFrom("contents")
    .select("bytes")
    .where("tenant", "=", tenant)
    .where("digest", "=", digest)
    .executeTakeFirstOrThrow();
  return bytes;
}

function readEntry(row: Selectable<VersionsTable>, { caller, requestId }: CallContext, purpose: string) {
  const { tenant, digest } = row;
  return { tenant, actor: caller.subject, resource: VERSION_NAME.format(row), digest, callId: requestId, purpose };
}
