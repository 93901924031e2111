import type { MessageInitShape } from "@bufbuild/protobuf";
import type {
  GetPersonaRequest,
  GetPersonaResponseSchema,
  GetPersonaRevisionRequest,
  GetPersonaRevisionResponseSchema,
  ListPersonaRevisionsRequest,
  ListPersonaRevisionsResponseSchema,
  ListPersonasRequest,
  ListPersonasResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { MAX_TERMS } from "@persona-mesh/steering";
import { sql } from "kysely";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { PERSONA_NAME, REVISION_NAME, TENANT_NAME } from "../resource-name.ts";
import { fittingPage } from "./fitting-page.ts";
import { gatedRevision, gatedRevisions, personaMessage, personaMessages } from "./persona-message.ts";
import { readPersona } from "./persona-rows.ts";

export async function getPersona(
  { transactor }: Registry,
  { name }: GetPersonaRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetPersonaResponseSchema>> {
  const ids = PERSONA_NAME.parse(name, "name");
  return transactor.read(context, ids.tenant, name, async (db) => ({
    persona: await personaMessage(db, await readPersona(db, ids)),
  }));
}

/** In the order of their ids. */
export async function listPersonas(
  { transactor }: Registry,
  request: ListPersonasRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListPersonasResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const query = ["personas", tenant, request.showDeleted];
  const { limit, after } = pageOf(request, ...query);
  return transactor.read(context, tenant, request.parent, async (db) => {
    const rows = await db
      .selectFrom("personas")
      .selectAll()
      .select(({ selectFrom }) =>
        selectFrom("persona_terms")
          .select(
            sql<number>`(${TERM_BYTES} * count(*) + 2 * coalesce(sum(cardinality(layers)), 0))::integer`.as("bytes"),
          )
          .whereRef("persona_terms.tenant", "=", "personas.tenant")
          .whereRef("persona_terms.persona", "=", "personas.persona")
          .whereRef("persona_terms.number", "=", "personas.latest")
          .as("terms"),
      )
      .where("tenant", "=", tenant)
      .$if(!request.showDeleted, (select) => select.where("deleted_at", "is", null))
      .$if(after !== undefined, (select) => select.where("persona", ">", after as string))
      .orderBy("persona")
      .limit(limit + 1)
      .execute();
    const sizes = rows.map(({ description, terms }) => 4 * description.length + (terms ?? 0) + NAMES_BYTES);
    const { rows: shown, nextPageToken } = fittingPage(request, sizes, ...query).take(rows, ({ persona }) => persona);
    return { personas: await personaMessages(db, tenant, shown), nextPageToken };
  });
}

/** What the names of a persona and its revisions take at most, with its times; and what a term does. */
const NAMES_BYTES = 2_000;
const TERM_BYTES = 512;

export async function getPersonaRevision(
  { transactor }: Registry,
  { name }: GetPersonaRevisionRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof GetPersonaRevisionResponseSchema>> {
  const { number, ...ids } = REVISION_NAME.parse(name, "name");
  return transactor.read(context, ids.tenant, name, async (db) => ({
    revision: await gatedRevision(db, { ...ids, number: Number(number) }),
  }));
}

/** Newest first. */
export async function listPersonaRevisions(
  { transactor }: Registry,
  request: ListPersonaRevisionsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListPersonaRevisionsResponseSchema>> {
  const ids = PERSONA_NAME.parse(request.parent, "parent");
  const query = ["revisions", ids.tenant, ids.persona];
  const page = pageOf(request, ...query);
  const after = numberIn(page.after);
  return transactor.read(context, ids.tenant, request.parent, async (db) => {
    await readPersona(db, ids);
    const rows = await db
      .selectFrom("persona_revisions")
      .select(["number", sql<number>`octet_length(composition::text)`.as("bytes")])
      .where("tenant", "=", ids.tenant)
      .where("persona", "=", ids.persona)
      .$if(after !== undefined, (select) => select.where("number", "<", after as number))
      .orderBy("number", "desc")
      .limit(page.limit + 1)
      .execute();
    const sizes = rows.map(({ bytes }) => bytes + NAMES_BYTES + MAX_TERMS * TERM_BYTES);
    const taken = fittingPage(request, sizes, ...query).take(rows, ({ number }) => String(number));
    const numbers = taken.rows.map(({ number }) => number);
    return { revisions: await gatedRevisions(db, ids, numbers), nextPageToken: taken.nextPageToken };
  });
}

/** The number that a page goes on after. @throws ServiceError INVALID_ARGUMENT for what no page ends with */
export function numberIn(after: string | undefined): number | undefined {
  if (after === undefined) return undefined;
  if (/^[1-9][0-9]{0,8}$/.test(after)) return Number(after);
  throw ServiceError.invalid([{ field: "page_token", description: "is not one that this list has given" }]);
}
