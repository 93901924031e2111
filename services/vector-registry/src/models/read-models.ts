import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetModelRequest,
  GetModelResponseSchema,
  ListModelsRequest,
  ListModelsResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { notFound } from "../failures.ts";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { MODEL_NAME } from "../resource-name.ts";
import { modelMessage } from "./model-message.ts";

const BY_CHECKSUM = /^models\/([0-9a-f]{64})$/;

/** By id or by checksum. Models are nobody's secret: every tenant reads all of them. */
export async function getModel(
  { transactor }: Registry,
  { name }: GetModelRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetModelResponseSchema>> {
  const checksum = BY_CHECKSUM.exec(name)?.[1];
  const id = MODEL_NAME.match(name)?.model;
  if (checksum === undefined && id === undefined) {
    throw ServiceError.invalid([{ field: "name", description: `is no name of the form ${MODEL_NAME.pattern}` }]);
  }
  return transactor.read(context, context.caller.tenant, name, async (db) => {
    const row = await db
      .selectFrom("models")
      .selectAll()
      .$if(checksum !== undefined, (query) => query.where("model_checksum", "=", checksum as string))
      .$if(checksum === undefined, (query) => query.where("model", "=", id as string))
      .executeTakeFirst();
    if (row === undefined) throw notFound(name);
    return { model: modelMessage(row) };
  });
}

/** By name. */
export async function listModels(
  { transactor }: Registry,
  request: ListModelsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListModelsResponseSchema>> {
  const page = pageOf(request, "models", request.showDeleted);
  return transactor.read(context, context.caller.tenant, "models", async (db) => {
    const found = await db
      .selectFrom("models")
      .selectAll()
      .$if(!request.showDeleted, (query) => query.where("deleted_at", "is", null))
      .$if(page.after !== undefined, (query) => query.where("model", ">", page.after as string))
      .orderBy("model")
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ model }) => model);
    return { models: rows.map(modelMessage), nextPageToken };
  });
}
