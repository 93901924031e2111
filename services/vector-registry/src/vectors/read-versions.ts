import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetVersionRequest,
  GetVersionResponseSchema,
  ListVersionsRequest,
  ListVersionsResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { VECTOR_NAME } from "../resource-name.ts";
import { resolveVersion, tenantOfVersion } from "./resolve-version.ts";
import { readVector } from "./vector-rows.ts";
import { versionMessage } from "./version-message.ts";

export async function getVersion(
  { transactor }: Registry,
  { name }: GetVersionRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetVersionResponseSchema>> {
  return transactor.read(context, tenantOfVersion(name, "name"), name, async (db) => ({
    version: await versionMessage(db, await resolveVersion(db, name, "name")),
  }));
}

/** A page of versions with their manifests must fit in a message: a manifest may have half a megabyte. */
const MAX_PAGE_BYTES = 2 << 20;

/** Newest first. */
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
  const page = pageOf(request, "versions", ids, modelChecksum);
  return transactor.read(context, ids.tenant, request.parent, async (db) => {
    await readVector(db, ids);
    const found = await db
      .selectFrom("versions")
      .selectAll()
      .where("tenant", "=", ids.tenant)
      .where("vector", "=", ids.vector)
      .$if(modelChecksum !== "", (query) => query.where("model_checksum", "=", modelChecksum))
      .$if(page.after !== undefined, (query) => query.where("number", "<", Number(page.after)))
      .orderBy("number", "desc")
      .limit(page.limit + 1)
      .execute();
    let bytes = 0;
    // Fewer than asked for where they are large: the token leads on all the same.
    const fitting = found.findIndex((row, index) => {
      bytes += row.manifest.length + row.pairs.length;
      return index > 0 && bytes > MAX_PAGE_BYTES;
    });
    const isCut = fitting > 0 && fitting < page.limit;
    const { rows, nextPageToken } = page.take(
      isCut ? found.slice(0, fitting) : found,
      ({ number }) => String(number),
      isCut,
    );
    const versions = [];
    for (const row of rows) versions.push(await versionMessage(db, row));
    return { versions, nextPageToken };
  });
}
