import type { MessageInitShape } from "@bufbuild/protobuf";
import { chainName, chainOf } from "@persona-mesh/audit";
import {
  AuditChain,
  type AuditEntrySchema,
  type ListAuditEntriesRequest,
  type ListAuditEntriesResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { type Selectable, type SelectQueryBuilder, sql } from "kysely";
import type { AuditChainName, AuditTable, Database } from "../database/schema.ts";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { requireFields, textViolations } from "../request-fields.ts";
import { TENANT_NAME } from "../resource-name.ts";
import { requireKnownTenant } from "./known-tenant.ts";

/** Longest filter, in characters: resource names have at most a few hundred. */
const FILTER = { max: 512 };

/** A page ends with the payload that passes this, in bytes: with the largest one still well within a message. */
const PAGE_BYTES = 2n * 1024n * 1024n;

/** A tenant's entries, newest first. */
export async function listAuditEntries(
  { transactor }: Registry,
  request: ListAuditEntriesRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListAuditEntriesResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const { action, actor, resource } = request;
  requireFields(
    textViolations("resource", resource, FILTER),
    textViolations("actor", actor, FILTER),
    textViolations("action", action, FILTER),
  );
  const chain = requireChain(request.chain);
  const page = pageOf(request, tenant, chain, resource, actor, action);
  return transactor.read(context, tenant, request.parent, async (db) => {
    await requireKnownTenant(db, tenant);
    const after = page.after === undefined ? undefined : requireSequence(page.after);
    let query = db.selectFrom("audit").selectAll().where("tenant", "=", tenant).where("chain", "=", chain);
    if (after !== undefined) query = query.where("sequence", "<", after);
    if (action !== "") query = query.where("action", "=", action);
    query = chain === "CHANGES" ? ofChanges(query, request) : ofReads(query, request);
    const rows = await db
      .selectFrom(
        query
          .orderBy("sequence", "desc")
          .limit(page.limit + 1)
          .as("found"),
      )
      .select(["chain", "sequence", "payload", "previous_hash", "hash"])
      .select(sql<bigint>`count(*) OVER ()`.as("found"))
      .select(
        sql<bigint>`sum(octet_length(payload)) OVER (ORDER BY sequence DESC) - octet_length(payload)`.as("before"),
      )
      .$call((measured) => db.selectFrom(measured.as("measured")).selectAll().where("before", "<", PAGE_BYTES))
      .orderBy("sequence", "desc")
      .execute();
    const isCut = rows.length < Number(rows[0]?.found ?? 0n);
    const { rows: shown, nextPageToken } = page.take(rows, ({ sequence }) => String(sequence), isCut);
    return { entries: shown.map(entryMessage), nextPageToken };
  });
}

type Query = SelectQueryBuilder<Database, "audit", Selectable<AuditTable>>;

/** A change has one actor and one resource. */
function ofChanges(query: Query, { actor, resource }: ListAuditEntriesRequest): Query {
  let narrowed = query;
  if (actor !== "") narrowed = narrowed.where("actor", "=", actor);
  if (resource !== "") {
    narrowed = narrowed.where((it) =>
      it.or([it("resource", "=", resource), it("resource", "like", `${escapeLike(resource)}/%`)]),
    );
  }
  return narrowed;
}

/** An entry of reads has many: it is listed where one of them fits both. */
function ofReads(query: Query, { actor, resource }: ListAuditEntriesRequest): Query {
  if (actor === "" && resource === "") return query;
  return query.where(sql<boolean>`EXISTS (
    SELECT FROM jsonb_array_elements(payload::jsonb -> 'reads') one
    WHERE (${actor} = '' OR one ->> 'actor' = ${actor})
      AND (${resource} = '' OR one ->> 'resource' = ${resource} OR one ->> 'resource' LIKE ${`${escapeLike(resource)}/%`}))`);
}

export function entryMessage(
  row: Pick<Selectable<AuditTable>, "chain" | "sequence" | "payload" | "previous_hash" | "hash">,
): MessageInitShape<typeof AuditEntrySchema> {
  const { chain, hash, payload, previous_hash: previousHash, sequence } = row;
  return { chain: chainOf(chain), sequence, payload, previousHash, hash };
}

function requireChain(chain: AuditChain): AuditChainName {
  const name = chainName(chain === AuditChain.UNSPECIFIED ? AuditChain.CHANGES : chain);
  if (name !== undefined) return name;
  throw ServiceError.invalid([{ field: "chain", description: `${chain} is no chain` }]);
}

function requireSequence(key: string): bigint {
  if (/^[0-9]{1,18}$/.test(key)) return BigInt(key);
  throw ServiceError.invalid([{ field: "page_token", description: "is not one that this list has given" }]);
}

function escapeLike(text: string): string {
  return text.replace(/[\\%_]/g, "\\$&");
}
