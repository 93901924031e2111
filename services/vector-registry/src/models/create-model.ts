import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type CreateModelRequest,
  CreateModelRequestSchema,
  CreateModelResponseSchema,
  type Model,
  ModelSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, PLATFORM_TENANT, ServiceError } from "@persona-mesh/service";
import type { Selectable } from "kysely";
import type { ModelsTable } from "../database/schema.ts";
import { alreadyExists } from "../failures.ts";
import type { Registry } from "../registry.ts";
import { requireFields } from "../request-fields.ts";
import { MODEL_NAME, requireId } from "../resource-name.ts";
import { modelViolations } from "./model-fields.ts";
import { auditedModel, modelMessage } from "./model-message.ts";

/**
 * Register a model. Workers do so at every start: the same facts again, under whatever id, give the model that is there.
 */
export async function createModel(
  { transactor }: Registry,
  request: CreateModelRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof CreateModelResponseSchema>> {
  const id = requireId(request.modelId, "model_id");
  const model = request.model ?? create(ModelSchema);
  requireFields(modelViolations(model));
  const resource = MODEL_NAME.format({ model: id });
  const scope = {
    context,
    tenant: PLATFORM_TENANT,
    resource,
    request,
    requestSchema: CreateModelRequestSchema,
    responseSchema: CreateModelResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const row = await db
      .insertInto("models")
      .values({
        model: id,
        model_checksum: model.modelChecksum,
        display_name: model.displayName,
        architecture: model.architecture,
        layers: model.layers,
        hidden_size: model.hiddenSize,
        vocabulary_size: model.vocabularySize,
        tokenizer_digest: model.tokenizerDigest,
        reference_norms: [...model.referenceNorms],
        deleted_at: null,
      })
      .onConflict((conflict) => conflict.doNothing())
      .returningAll()
      .executeTakeFirst();
    if (row !== undefined) {
      mutation.audit({ action: "CreateModel", resource, after: auditedModel(row) });
      return { model: modelMessage(row) };
    }
    const present = await db
      .selectFrom("models")
      .selectAll()
      .where("model_checksum", "=", model.modelChecksum)
      .executeTakeFirst();
    if (present === undefined) throw alreadyExists(resource);
    requireSame(present, model);
    // Nothing was changed, but that somebody asked is written down all the same.
    mutation.audit({ action: "CreateModel", resource: MODEL_NAME.format(present), after: { unchanged: true } });
    return { model: modelMessage(present) };
  });
}

/** Weights have one shape: who says another is wrong about the checksum. @throws ServiceError RESOURCE_EXISTS */
function requireSame(present: Selectable<ModelsTable>, model: Model): void {
  const pairs: readonly [string, string | number, string | number][] = [
    ["architecture", present.architecture, model.architecture],
    ["layers", present.layers, model.layers],
    ["hidden_size", present.hidden_size, model.hiddenSize],
    ["vocabulary_size", present.vocabulary_size, model.vocabularySize],
    ["tokenizer_digest", present.tokenizer_digest, model.tokenizerDigest || present.tokenizer_digest],
  ];
  const different = pairs.find(([, there, given]) => there !== given);
  const name = MODEL_NAME.format(present);
  if (present.deleted_at !== null) {
    throw new ServiceError("RESOURCE_EXISTS", `"${name}" has this checksum and is deleted; undelete it`, {
      metadata: { resource: name },
    });
  }
  if (different === undefined) return;
  const [field, there, given] = different;
  throw new ServiceError("RESOURCE_EXISTS", `"${name}" has this checksum and ${field} ${there}, not ${given}`, {
    metadata: { resource: name, field },
  });
}
