import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetVectorRequest,
  GetVectorResponseSchema,
  ListVectorsRequest,
  ListVectorsResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { TENANT_NAME, VECTOR_NAME } from "../resource-name.ts";
import { readVector, vectorMessage, vectorMessages } from "./vector-rows.ts";

export async function getVector(
  { transactor }: Registry,
  { name }: GetVectorRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetVectorResponseSchema>> {
  const ids = VECTOR_NAME.parse(name, "name");
  return transactor.read(context, ids.tenant, name, async (db) => ({
    vector: await vectorMessage(db, await readVector(db, ids)),
  }));
}

/** By name. */
export async function listVectors(
  { transactor }: Registry,
  request: ListVectorsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListVectorsResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const page = pageOf(request, "vectors", tenant, request.showDeleted);
  return transactor.read(context, tenant, request.parent, async (db) => {
    const found = await db
      .selectFrom("vectors")
      .selectAll()
      .where("tenant", "=", tenant)
      .$if(!request.showDeleted, (query) => query.where("deleted_at", "is", null))
      .$if(page.after !== undefined, (query) => query.where("vector", ">", page.after as string))
      .orderBy("vector")
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ vector }) => vector);
    return { vectors: await vectorMessages(db, rows), nextPageToken };
  });
}
