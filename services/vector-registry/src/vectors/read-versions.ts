import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetVersionRequest,
  GetVersionResponseSchema,
  ListVersionsRequest,
  ListVersionsResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import type { Tx } from "../database/tx.ts";
import { pageOf } from "../paging.ts";
import { fittingPage } from "../personas/fitting-page.ts";
import { numberIn } from "../personas/read-personas.ts";
import type { Registry } from "../registry.ts";
import { VECTOR_NAME } from "../resource-name.ts";
import { resolveVersion, tenantOfVersion } from "./resolve-version.ts";
import { readVector, type VectorIds } from "./vector-rows.ts";
import { versionMessage, versionMessages } from "./version-message.ts";

export async function getVersion(
  { transactor }: Registry,
  { name }: GetVersionRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetVersionResponseSchema>> {
  return transactor.read(context, tenantOfVersion(name, "name"), name, async (db) => ({
    version: await versionMessage(db, await resolveVersion(db, name, "name")),
  }));
}

/** All but the pairs, which may have a megabyte each and are for whoever asks for one version. */
const LISTED = [
  "tenant",
  "vector",
  "digest",
  "number",
  "model_checksum",
  "graph_digest",
  "tokenizer_digest",
  "hidden_size",
  "layer_count",
  "layers",
  "site",
  "manifest",
  "seed",
  "parent_digest",
  "submitter",
  "requested_by",
  "job",
  "created_at",
] as const;

/** Newest first, without their pairs. */
export async function listVersions(
  { transactor }: Registry,
  request: ListVersionsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListVersionsResponseSchema>> {
  const ids = VECTOR_NAME.parse(request.parent, "parent");
  const { modelChecksum } = request;
  if (modelChecksum !== "" && !/^[0-9a-f]{64}$/.test(modelChecksum)) {
    throw ServiceError.invalid([{ field: "model_checksum", description: "must be a sha256 in lower-case hex" }]);
  }
  const query = ["versions", ids, modelChecksum];
  const { limit, after: token } = pageOf(request, ...query);
  const after = numberIn(token);
  return transactor.read(context, ids.tenant, request.parent, async (db) => {
    await readVector(db, ids);
    const inOrder = versionsAfter(db, ids, modelChecksum, after);
    // A manifest may have half a megabyte: how many of them fit into a message is asked before they are read.
    const sized = await inOrder
      .select(sql<number>`octet_length(manifest)`.as("size"))
      .limit(limit + 1)
      .execute();
    const page = fittingPage(
      request,
      sized.map(({ size }) => size),
      ...query,
    );
    const found = await inOrder
      .select(LISTED)
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ number }) => String(number));
    const withoutPairs = rows.map((row) => ({ ...row, pairs: "" }));
    return { versions: await versionMessages(db, ids.tenant, withoutPairs), nextPageToken };
  });
}

function versionsAfter(db: Tx, { tenant, vector }: VectorIds, modelChecksum: string, after: number | undefined) {
  return db
    .selectFrom("versions")
    .where("tenant", "=", tenant)
    .where("vector", "=", vector)
    .$if(modelChecksum !== "", (query) => query.where("model_checksum", "=", modelChecksum))
    .$if(after !== undefined, (query) => query.where("number", "<", after as number))
    .orderBy("number", "desc");
}
