import { ServiceError } from "@persona-mesh/service";
import type { Selectable } from "kysely";
import type { VersionsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { notFound } from "../failures.ts";
import { ALIAS_NAME, VERSION_NAME } from "../resource-name.ts";

/** Which tenant a version's or an alias's name is of. @throws ServiceError INVALID_ARGUMENT */
export function tenantOfVersion(name: string, field: string): string {
  const ids = VERSION_NAME.match(name) ?? ALIAS_NAME.match(name);
  if (ids !== undefined) return ids.tenant;
  throw ServiceError.invalid([
    { field, description: `is no name of the form ${VERSION_NAME.pattern} or ${ALIAS_NAME.pattern}` },
  ]);
}

/**
 * The version that a name stands for now: its own, or an alias's.
 *
 * @throws ServiceError INVALID_ARGUMENT, RESOURCE_NOT_FOUND
 */
export async function resolveVersion(db: Tx, name: string, field: string): Promise<Selectable<VersionsTable>> {
  tenantOfVersion(name, field);
  const version = VERSION_NAME.match(name);
  const alias = ALIAS_NAME.match(name);
  const query = db.selectFrom("versions as v").selectAll("v");
  const row =
    version === undefined
      ? await query
          .innerJoin("aliases as a", (join) =>
            join
              .onRef("a.tenant", "=", "v.tenant")
              .onRef("a.vector", "=", "v.vector")
              .onRef("a.digest", "=", "v.digest"),
          )
          .where("a.tenant", "=", alias?.tenant ?? "")
          .where("a.vector", "=", alias?.vector ?? "")
          .where("a.alias", "=", alias?.alias ?? "")
          .executeTakeFirst()
      : await query
          .where("v.tenant", "=", version.tenant)
          .where("v.vector", "=", version.vector)
          .where("v.digest", "=", version.digest)
          .executeTakeFirst();
  if (row === undefined) throw notFound(name);
  return row;
}
