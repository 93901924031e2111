import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CreateVectorRequest,
  CreateVectorRequestSchema,
  CreateVectorResponseSchema,
  type DeleteVectorRequest,
  DeleteVectorRequestSchema,
  DeleteVectorResponseSchema,
  type UndeleteVectorRequest,
  UndeleteVectorRequestSchema,
  UndeleteVectorResponseSchema,
  type UpdateVectorRequest,
  UpdateVectorRequestSchema,
  UpdateVectorResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { sql, type Updateable } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { VectorsTable } from "../database/schema.ts";
import { requireEtag } from "../etag.ts";
import { alreadyExists, referenced } from "../failures.ts";
import type { Registry } from "../registry.ts";
import { DESCRIPTION, DISPLAY_NAME, REASON, requireFields, textViolations, updatedPaths } from "../request-fields.ts";
import { requireId, TENANT_NAME, VECTOR_NAME } from "../resource-name.ts";
import { requireVectorQuota } from "./quotas.ts";
import { referrersOfVector } from "./referrers.ts";
import { readLiveVector, readVector, tenantOf, type VectorIds, type VectorRow, vectorMessage } from "./vector-rows.ts";

/** A name for versions to come. */
export async function createVector(
  { transactor }: Registry,
  request: CreateVectorRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof CreateVectorResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const vector = requireId(request.vectorId, "vector_id");
  const { displayName = "", description = "" } = request.vector ?? {};
  requireFields(
    textViolations("vector.display_name", displayName, DISPLAY_NAME),
    textViolations("vector.description", description, DESCRIPTION),
  );
  const resource = VECTOR_NAME.format({ tenant, vector });
  const schemas = { requestSchema: CreateVectorRequestSchema, responseSchema: CreateVectorResponseSchema };
  return transactor.mutate({ context, tenant, resource, request, ...schemas }, async (mutation) => {
    await requireVectorQuota(mutation);
    const row = await mutation.db
      .insertInto("vectors")
      .values({ tenant, vector, display_name: displayName, description, deleted_at: null })
      .onConflict((conflict) => conflict.doNothing())
      .returningAll()
      .executeTakeFirst();
    if (row === undefined) throw alreadyExists(resource);
    mutation.audit({ action: "CreateVector", resource, after: auditedVector(row) });
    return { vector: await vectorMessage(mutation.db, row) };
  });
}

export async function updateVector(
  { transactor }: Registry,
  request: UpdateVectorRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UpdateVectorResponseSchema>> {
  const { name: resource = "", displayName = "", description = "", etag = "" } = request.vector ?? {};
  const ids = VECTOR_NAME.parse(resource, "vector.name");
  const present = [...(displayName === "" ? [] : ["display_name"]), ...(description === "" ? [] : ["description"])];
  const paths = updatedPaths(request.updateMask, ["display_name", "description"], present);
  requireFields(
    textViolations("reason", request.reason, REASON),
    paths.has("display_name") ? textViolations("vector.display_name", displayName, DISPLAY_NAME) : [],
    paths.has("description") ? textViolations("vector.description", description, DESCRIPTION) : [],
  );
  const schemas = { requestSchema: UpdateVectorRequestSchema, responseSchema: UpdateVectorResponseSchema };
  return transactor.mutate({ context, tenant: ids.tenant, resource, request, ...schemas }, async (mutation) => {
    const before = await readLiveVector(mutation.db, ids);
    requireEtag(etag, before, resource);
    const row = await change(mutation, ids, {
      ...(paths.has("display_name") ? { display_name: displayName } : {}),
      ...(paths.has("description") ? { description } : {}),
    });
    audit(mutation, "UpdateVector", { before, row, reason: request.reason });
    return { vector: await vectorMessage(mutation.db, row) };
  });
}

/** Its versions stay what they are; nothing new may use them. */
export async function deleteVector(
  { transactor }: Registry,
  request: DeleteVectorRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DeleteVectorResponseSchema>> {
  const ids = VECTOR_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: DeleteVectorRequestSchema, responseSchema: DeleteVectorResponseSchema };
  const scope = { context, tenant: ids.tenant, resource: request.name, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const before = await readVector(mutation.db, ids);
    requireEtag(request.etag, before, request.name);
    if (before.deleted_at !== null) return unchanged(mutation, "DeleteVector", before);
    const referrers = await referrersOfVector(mutation.db, ids);
    if (referrers.length > 0) throw referenced(request.name, referrers);
    const row = await change(mutation, ids, { deleted_at: mutation.now });
    audit(mutation, "DeleteVector", { before, row, reason: request.reason });
    return { vector: await vectorMessage(mutation.db, row) };
  });
}

export async function undeleteVector(
  { transactor }: Registry,
  request: UndeleteVectorRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UndeleteVectorResponseSchema>> {
  const ids = VECTOR_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: UndeleteVectorRequestSchema, responseSchema: UndeleteVectorResponseSchema };
  const scope = { context, tenant: ids.tenant, resource: request.name, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const before = await readVector(mutation.db, ids);
    requireEtag(request.etag, before, request.name);
    if (before.deleted_at === null) return unchanged(mutation, "UndeleteVector", before);
    await requireVectorQuota(mutation);
    const row = await change(mutation, ids, { deleted_at: null });
    audit(mutation, "UndeleteVector", { before, row, reason: request.reason });
    return { vector: await vectorMessage(mutation.db, row) };
  });
}

/** It was so already; that somebody asked is written down all the same. */
async function unchanged(mutation: Mutation, action: string, row: VectorRow) {
  tenantOf(mutation);
  mutation.audit({ action, resource: VECTOR_NAME.format(row), after: { unchanged: true } });
  return { vector: await vectorMessage(mutation.db, row) };
}

async function change(
  { db, now }: Mutation,
  { tenant, vector }: VectorIds,
  columns: Updateable<VectorsTable>,
): Promise<VectorRow> {
  return db
    .updateTable("vectors")
    .set({ ...columns, etag: sql`etag + 1`, updated_at: now })
    .where("tenant", "=", tenant)
    .where("vector", "=", vector)
    .returningAll()
    .executeTakeFirstOrThrow();
}

function audit(
  mutation: Mutation,
  action: string,
  { before, row, reason }: { readonly before: VectorRow; readonly row: VectorRow; readonly reason: string },
): void {
  const resource = VECTOR_NAME.format(row);
  mutation.audit({ action, resource, before: auditedVector(before), after: auditedVector(row), reason });
}

function auditedVector(row: VectorRow) {
  return { displayName: row.display_name, description: row.description, deleted: row.deleted_at !== null };
}
