import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type DeleteModelRequest,
  DeleteModelRequestSchema,
  DeleteModelResponseSchema,
  type UndeleteModelRequest,
  UndeleteModelRequestSchema,
  UndeleteModelResponseSchema,
  type UpdateModelRequest,
  UpdateModelRequestSchema,
  UpdateModelResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, PLATFORM_TENANT } from "@persona-mesh/service";
import { type Selectable, sql, type Updateable } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { ModelsTable } from "../database/schema.ts";
import { requireEtag } from "../etag.ts";
import { deleted, notFound, referenced } from "../failures.ts";
import type { Registry } from "../registry.ts";
import { DISPLAY_NAME, REASON, requireFields, textViolations, updatedPaths } from "../request-fields.ts";
import { MODEL_NAME } from "../resource-name.ts";
import { normViolations } from "./model-fields.ts";
import { auditedModel, modelMessage } from "./model-message.ts";
import { isModelUsed } from "./model-use.ts";

/** The display name and the norms: what a model is cannot change. */
export async function updateModel(
  { transactor }: Registry,
  request: UpdateModelRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UpdateModelResponseSchema>> {
  const given = request.model;
  const resource = given?.name ?? "";
  const { model } = MODEL_NAME.parse(resource, "model.name");
  const present = [
    ...(given?.displayName ? ["display_name"] : []),
    ...(given !== undefined && given.referenceNorms.length > 0 ? ["reference_norms"] : []),
  ];
  const paths = updatedPaths(request.updateMask, ["display_name", "reference_norms"], present);
  requireFields(
    textViolations("reason", request.reason, REASON),
    paths.has("display_name") ? textViolations("model.display_name", given?.displayName ?? "", DISPLAY_NAME) : [],
  );
  const schemas = { requestSchema: UpdateModelRequestSchema, responseSchema: UpdateModelResponseSchema };
  const scope = { context, tenant: PLATFORM_TENANT, resource, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const before = await lockedModel(mutation, model);
    requireEtag(given?.etag ?? "", before, resource);
    if (before.deleted_at !== null) throw deleted(resource);
    const norms = given?.referenceNorms ?? [];
    if (paths.has("reference_norms")) requireFields(normViolations(norms, before.layers));
    const row = await change(mutation, model, {
      ...(paths.has("display_name") ? { display_name: given?.displayName ?? "" } : {}),
      ...(paths.has("reference_norms") ? { reference_norms: [...norms] } : {}),
    });
    audit(mutation, "UpdateModel", { before, row, reason: request.reason });
    return { model: modelMessage(row) };
  });
}

/** Refused while versions belong to it, of whichever tenant; nobody is named, for tenants do not learn of each other. */
export async function deleteModel(
  { transactor }: Registry,
  request: DeleteModelRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof DeleteModelResponseSchema>> {
  const { model } = MODEL_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: DeleteModelRequestSchema, responseSchema: DeleteModelResponseSchema };
  const scope = { context, tenant: PLATFORM_TENANT, resource: request.name, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const before = await lockedModel(mutation, model);
    requireEtag(request.etag, before, request.name);
    if (before.deleted_at !== null) return { model: modelMessage(before) };
    if (await isModelUsed(mutation.db, before.model_checksum)) {
      throw referenced(request.name, ["versions of vectors"]);
    }
    const row = await change(mutation, model, { deleted_at: mutation.now });
    audit(mutation, "DeleteModel", { before, row, reason: request.reason });
    return { model: modelMessage(row) };
  });
}

export async function undeleteModel(
  { transactor }: Registry,
  request: UndeleteModelRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof UndeleteModelResponseSchema>> {
  const { model } = MODEL_NAME.parse(request.name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: UndeleteModelRequestSchema, responseSchema: UndeleteModelResponseSchema };
  const scope = { context, tenant: PLATFORM_TENANT, resource: request.name, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const before = await lockedModel(mutation, model);
    requireEtag(request.etag, before, request.name);
    if (before.deleted_at === null) return { model: modelMessage(before) };
    const row = await change(mutation, model, { deleted_at: null });
    audit(mutation, "UndeleteModel", { before, row, reason: request.reason });
    return { model: modelMessage(row) };
  });
}

async function lockedModel({ db }: Mutation, model: string): Promise<Selectable<ModelsTable>> {
  const row = await db.selectFrom("models").selectAll().where("model", "=", model).forNoKeyUpdate().executeTakeFirst();
  if (row === undefined) throw notFound(MODEL_NAME.format({ model }));
  return row;
}

async function change({ db, now }: Mutation, model: string, columns: Updateable<ModelsTable>) {
  return db
    .updateTable("models")
    .set({ ...columns, etag: sql`etag + 1`, updated_at: now })
    .where("model", "=", model)
    .returningAll()
    .executeTakeFirstOrThrow();
}

function audit(
  mutation: Mutation,
  action: string,
  {
    before,
    row,
    reason,
  }: {
    readonly before: Selectable<ModelsTable>;
    readonly row: Selectable<ModelsTable>;
    readonly reason: string;
  },
): void {
  const resource = MODEL_NAME.format(row);
  mutation.audit({ action, resource, before: auditedModel(before), after: auditedModel(row), reason });
}
