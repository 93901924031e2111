import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type ListBreakGlassUsesRequest,
  type ListBreakGlassUsesResponseSchema,
  type ReviewBreakGlassUseRequest,
  ReviewBreakGlassUseRequestSchema,
  ReviewBreakGlassUseResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { notFound } from "../failures.ts";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { REQUIRED_REASON, requireFields, textViolations } from "../request-fields.ts";
import { BREAK_GLASS_NAME, TENANT_NAME } from "../resource-name.ts";
import { breakGlassUseMessage } from "./approval-message.ts";
import { isAfter, MICROSECONDS, placeIn, placeKey } from "./newest-first.ts";

/** Newest first. */
export async function listBreakGlassUses(
  { transactor }: Registry,
  request: ListBreakGlassUsesRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListBreakGlassUsesResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const page = pageOf(request, "breakGlassUses", tenant, request.unreviewedOnly);
  const after = placeIn(page.after);
  return transactor.read(context, tenant, request.parent, async (db) => {
    const found = await db
      .selectFrom("break_glass_uses")
      .selectAll()
      .select(MICROSECONDS.as("micros"))
      .where("tenant", "=", tenant)
      .$if(request.unreviewedOnly, (query) => query.where("reviewed_at", "is", null))
      .$if(after !== undefined, (query) => query.where(isAfter(after as NonNullable<typeof after>, "use")))
      .orderBy("created_at", "desc")
      .orderBy("use", "desc")
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ micros, use }) => placeKey({ micros, id: use }));
    return { uses: rows.map(breakGlassUseMessage), nextPageToken };
  });
}

/** A second person's judgement, once. It is written down, and undoes nothing. */
export async function reviewBreakGlassUse(
  { transactor }: Registry,
  request: ReviewBreakGlassUseRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ReviewBreakGlassUseResponseSchema>> {
  const ids = BREAK_GLASS_NAME.parse(request.name, "name");
  requireFields(textViolations("note", request.note, REQUIRED_REASON));
  const scope = {
    context,
    tenant: ids.tenant,
    resource: request.name,
    request,
    requestSchema: ReviewBreakGlassUseRequestSchema,
    responseSchema: ReviewBreakGlassUseResponseSchema,
  };
  return transactor.mutate(scope, async (mutation) => {
    const { db, actor, now } = mutation;
    const before = await db
      .selectFrom("break_glass_uses")
      .selectAll()
      .where("tenant", "=", ids.tenant)
      .where("use", "=", ids.use)
      .executeTakeFirst();
    if (before === undefined) throw notFound(request.name);
    const about = { metadata: { resource: request.name } };
    if (before.reviewed_at !== null) {
      throw new ServiceError("ALREADY_REVIEWED", `"${request.name}" was reviewed by ${before.reviewer}`, about);
    }
    if (before.actor === actor) {
      throw new ServiceError("SELF_REVIEW", `${actor} broke the glass and cannot review it; ask somebody else`, about);
    }
    const after = await db
      .updateTable("break_glass_uses")
      .set({ reviewer: actor, accepted: request.accepted, note: request.note, reviewed_at: now })
      .where("tenant", "=", ids.tenant)
      .where("use", "=", ids.use)
      .returningAll()
      .executeTakeFirstOrThrow();
    mutation.audit({
      action: "ReviewBreakGlassUse",
      resource: request.name,
      before: { action: before.action, resource: before.resource, actor: before.actor },
      after: { accepted: request.accepted },
      reason: request.note,
    });
    return { use: breakGlassUseMessage(after) };
  });
}
