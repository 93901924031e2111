import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { ListActivationsRequest, ListActivationsResponseSchema } from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { pageOf } from "../paging.ts";
import type { Registry } from "../registry.ts";
import { TENANT_NAME } from "../resource-name.ts";
import { numberIn } from "./read-personas.ts";
import { revisionName } from "./read-revision.ts";

/** What was active when, newest first. */
export async function listActivations(
  { transactor }: Registry,
  request: ListActivationsRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ListActivationsResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const page = pageOf(request, "activations", tenant);
  const after = numberIn(page.after);
  return transactor.read(context, tenant, request.parent, async (db) => {
    const found = await db
      .selectFrom("activations")
      .selectAll()
      .where("tenant", "=", tenant)
      .$if(after !== undefined, (select) => select.where("number", "<", after as number))
      .orderBy("number", "desc")
      .limit(page.limit + 1)
      .execute();
    const { rows, nextPageToken } = page.take(found, ({ number }) => String(number));
    return {
      activations: rows.map((row) => ({
        number: row.number,
        revision:
          row.persona === null || row.persona_number === null
            ? ""
            : revisionName({ tenant, persona: row.persona, number: row.persona_number }),
        activatedBy: row.activated_by,
        activateTime: timestampFromDate(row.created_at),
        reason: row.reason,
        breakGlass: row.break_glass !== null,
      })),
      nextPageToken,
    };
  });
}
