import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  ApprovalState,
  type BreakGlass,
  type RollbackAliasRequest,
  RollbackAliasRequestSchema,
  RollbackAliasResponseSchema,
  type SetAliasRequest,
  SetAliasRequestSchema,
  SetAliasResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { type Selectable, sql } from "kysely";
import { approvalSummary } from "../approvals/approval-summary.ts";
import { breakGlass } from "../approvals/break-glass.ts";
import type { Mutation } from "../database/mutation.ts";
import type { AliasesTable } from "../database/schema.ts";
import { requireEtag } from "../etag.ts";
import { notFound } from "../failures.ts";
import { followAlias } from "../personas/follow-alias.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { ALIAS_NAME, VECTOR_NAME, VERSION_NAME } from "../resource-name.ts";
import { type AliasIds, aliasMessage, readAlias } from "./alias-rows.ts";
import { readLiveVector } from "./vector-rows.ts";

/** The alias whose moves need approval. */
const PRODUCTION = "production";

/** Of one vector. */
const MAX_ALIASES = 100;

/** An etag that says: there must be none. */
const NONE = "0";

/** Point an alias at a version. Personas that follow it go along in the same moment, or the alias does not move. */
export async function setAlias(
  { transactor }: Registry,
  request: SetAliasRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof SetAliasResponseSchema>> {
  const { name = "", version = "", etag = "" } = request.alias ?? {};
  const ids = ALIAS_NAME.parse(name, "alias.name");
  const target = VERSION_NAME.parse(version, "alias.version");
  if (target.tenant !== ids.tenant || target.vector !== ids.vector) {
    throw ServiceError.invalid([{ field: "alias.version", description: "must be a version of the alias's vector" }]);
  }
  requireFields(textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: SetAliasRequestSchema, responseSchema: SetAliasResponseSchema };
  return transactor.mutate({ context, tenant: ids.tenant, resource: name, request, ...schemas }, async (mutation) => {
    await readLiveVector(mutation.db, ids);
    await requireVersion(mutation, version);
    const current = await readAlias(mutation.db, ids);
    requireAliasEtag(etag, current, name);
    if (current === undefined) await requireAliasQuota(mutation, ids);
    const { digest } = target;
    return move(mutation, {
      ids,
      current,
      digest,
      action: "SetAlias",
      reason: request.reason,
      glass: request.breakGlass,
    });
  });
}

/** Point an alias at an earlier target of it: the one before, where nothing else is said, that is not revoked. */
export async function rollbackAlias(
  { transactor }: Registry,
  request: RollbackAliasRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof RollbackAliasResponseSchema>> {
  const { name } = request;
  const ids = ALIAS_NAME.parse(name, "name");
  requireFields(textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: RollbackAliasRequestSchema, responseSchema: RollbackAliasResponseSchema };
  return transactor.mutate({ context, tenant: ids.tenant, resource: name, request, ...schemas }, async (mutation) => {
    await readLiveVector(mutation.db, ids);
    const current = await readAlias(mutation.db, ids);
    if (current === undefined) throw notFound(name);
    requireAliasEtag(request.etag, current, name);
    const digest = await earlierTarget(mutation, current, request.target);
    return move(mutation, {
      ids,
      current,
      digest,
      action: "RollbackAlias",
      reason: request.reason,
      glass: request.breakGlass,
    });
  });
}

async function requireAliasQuota({ db }: Mutation, { tenant, vector }: AliasIds): Promise<void> {
  const { rows } = await sql<{ count: bigint }>`
    SELECT count(*) AS count FROM aliases WHERE tenant = ${tenant} AND vector = ${vector}`.execute(db);
  if (Number(rows[0]?.count) < MAX_ALIASES) return;
  const name = VECTOR_NAME.format({ tenant, vector });
  throw new ServiceError("QUOTA_EXCEEDED", `"${name}" has ${MAX_ALIASES} aliases, as many as a vector may have`);
}

interface Move {
  readonly ids: AliasIds;
  readonly current: Selectable<AliasesTable> | undefined;
  readonly digest: string;
  readonly action: "SetAlias" | "RollbackAlias";
  readonly reason: string;
  readonly glass: BreakGlass | undefined;
}

async function move(mutation: Mutation, { ids, current, digest, action, reason, glass }: Move) {
  const { db, actor, now } = mutation;
  const { tenant, vector, alias } = ids;
  const resource = ALIAS_NAME.format(ids);
  const use = await glassFor(mutation, { ids, digest, action, glass });
  const { rows } = await sql<{ number: number }>`
    SELECT coalesce(max(number), 0) + 1 AS number FROM alias_targets
    WHERE tenant = ${tenant} AND vector = ${vector} AND alias = ${alias}`.execute(db);
  const number = (rows[0] as { number: number }).number;
  await db
    .insertInto("alias_targets")
    .values({ tenant, vector, alias, number, digest, reason, set_by: actor, break_glass: use ?? null })
    .execute();
  // The etag is the target's number: it goes on where an alias is deleted and made again, so an old one never fits a new alias.
  const target = { digest, number, reason, updated_by: actor, break_glass: use ?? null, etag: BigInt(number) };
  const row = await db
    .insertInto("aliases")
    .values({ tenant, vector, alias, ...target, updated_at: now })
    .onConflict((conflict) =>
      conflict.columns(["tenant", "vector", "alias"]).doUpdateSet({ ...target, updated_at: now }),
    )
    .returningAll()
    .executeTakeFirstOrThrow();
  mutation.audit({
    action,
    resource,
    ...(current === undefined ? {} : { before: { digest: current.digest, number: current.number } }),
    after: { digest, number, ...(use === undefined ? {} : { breakGlass: use }) },
    reason,
  });
  const personaRevisions = await followAlias(mutation, {
    vector,
    alias,
    digest,
    ...(glass === undefined ? {} : { breakGlass: { action, justification: glass.justification } }),
  });
  const revision = mutation.tells ? await mutation.takeRevision() : 0n;
  return { alias: aliasMessage(row), personaRevisions, revision };
}

/** The use of break-glass that lets an unapproved version into production; undefined where none is needed. */
async function glassFor(
  mutation: Mutation,
  { ids, digest, action, glass }: Pick<Move, "ids" | "digest" | "action" | "glass">,
): Promise<string | undefined> {
  if (ids.alias !== PRODUCTION || glass === undefined) return undefined;
  const { state } = await approvalSummary(mutation.db, { ...ids, digest });
  if (state === ApprovalState.APPROVED) return undefined;
  return breakGlass(mutation, { action, resource: ALIAS_NAME.format(ids), justification: glass.justification });
}

async function requireVersion({ db }: Mutation, name: string): Promise<void> {
  const { tenant, vector, digest } = VERSION_NAME.parse(name, "alias.version");
  const row = await db
    .selectFrom("versions")
    .select("digest")
    .where("tenant", "=", tenant)
    .where("vector", "=", vector)
    .where("digest", "=", digest)
    .executeTakeFirst();
  if (row === undefined) throw notFound(name);
}

function requireAliasEtag(etag: string, current: Selectable<AliasesTable> | undefined, name: string): void {
  if (current !== undefined) requireEtag(etag, current, name);
  else if (etag !== "" && etag !== NONE) requireEtag(etag, { etag: 0n }, name);
}

async function earlierTarget(
  { db }: Mutation,
  { tenant, vector, alias, digest, number }: Selectable<AliasesTable>,
  asked: number,
): Promise<string> {
  const targets = db
    .selectFrom("alias_targets as t")
    .select("t.digest")
    .where("t.tenant", "=", tenant)
    .where("t.vector", "=", vector)
    .where("t.alias", "=", alias)
    .where("t.number", "<", number);
  const found =
    asked > 0
      ? await targets.where("t.number", "=", Math.min(asked, MAX_NUMBER)).executeTakeFirst()
      : await targets
          .where("t.digest", "<>", digest)
          .where(({ not, exists, selectFrom }) =>
            not(
              exists(
                selectFrom("revocations as r")
                  .select("r.digest")
                  .whereRef("r.tenant", "=", "t.tenant")
                  .whereRef("r.digest", "=", "t.digest"),
              ),
            ),
          )
          .orderBy("t.number", "desc")
          .limit(1)
          .executeTakeFirst();
  if (found !== undefined) return found.digest;
  const name = ALIAS_NAME.format({ tenant, vector, alias });
  throw notFound(asked > 0 ? `${name} at its target ${asked}` : `${name} at an earlier target`);
}

/** As the column's type holds. */
const MAX_NUMBER = 2 ** 31 - 1;
