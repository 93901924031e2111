import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type {
  GetAliasRequest,
  GetAliasResponseSchema,
  ListAliasesRequest,
  ListAliasesResponseSchema,
  ListAliasTargetsRequest,
  ListAliasTargetsResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { notFound } from "../failures.ts";
import { pageOf } from "../paging.ts";
import { numberIn } from "../personas/read-personas.ts";
import type { Registry } from "../registry.ts";
import { ALIAS_NAME, VECTOR_NAME, VERSION_NAME } from "../resource-name.ts";
import { aliasMessage, readAlias } from "./alias-rows.ts";
import { readVector } from "./vector-rows.ts";

export async function getAlias(
  { transactor }: Registry,
  { name }: GetAliasRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetAliasResponseSchema>> {
  const ids = ALIAS_NAME.parse(name, "name");
  return transactor.read(context, ids.tenant, name, async (db) => {
    const row = await readAlias(db, ids);
    if (row === undefined) throw notFound(name);
    return { alias: aliasMessage(row) };
  });
}

/** By name. */
export async function listAliases(
  { transactor }: Registry,
  request: ListAliasesRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListAliasesResponseSchema>> {
  const ids = VECTOR_NAME.parse(request.parent, "parent");
  const page = pageOf(request, "aliases", ids);
  return transactor.read(context, ids.tenant, request.parent, async (db) => {
    await readVector(db, ids);
    const found = await db
      .selectFrom("aliases")
      .selectAll()
      .where("tenant", "=", ids.tenant)
      .where("vector", "=", ids.vector)
      .$if(page.after !== undefined, (query) => query.where("alias", ">", page.after as string))
      .orderBy("alias")
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ alias }) => alias);
    return { aliases: rows.map(aliasMessage), nextPageToken };
  });
}

/** Everything an alias has pointed at, newest first; also of one that is deleted. */
export async function listAliasTargets(
  { transactor }: Registry,
  request: ListAliasTargetsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListAliasTargetsResponseSchema>> {
  const ids = ALIAS_NAME.parse(request.parent, "parent");
  const page = pageOf(request, "targets", ids);
  const after = numberIn(page.after);
  return transactor.read(context, ids.tenant, request.parent, async (db) => {
    await readVector(db, ids);
    const found = await db
      .selectFrom("alias_targets")
      .selectAll()
      .where("tenant", "=", ids.tenant)
      .where("vector", "=", ids.vector)
      .where("alias", "=", ids.alias)
      .$if(after !== undefined, (query) => query.where("number", "<", after as number))
      .orderBy("number", "desc")
      .limit(page.limit + 1)
      .execute();
    if (found.length === 0 && after === undefined) throw notFound(request.parent);
    const { rows, nextPageToken } = page.take(found, ({ number }) => String(number));
    return {
      targets: rows.map((row) => ({
        number: row.number,
        version: VERSION_NAME.format(row),
        reason: row.reason,
        setBy: row.set_by,
        setTime: timestampFromDate(row.created_at),
        breakGlass: row.break_glass !== null,
      })),
      nextPageToken,
    };
  });
}
