import { ServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import type { VersionsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { deleted, notFound } from "../failures.ts";
import { VECTOR_NAME, VERSION_NAME } from "../resource-name.ts";
import type { WrittenTerm } from "./written-spec.ts";

/** A term, and the version that it stands for. */
export interface ResolvedTerm {
  readonly written: WrittenTerm;
  readonly version: TermVersion;
}

type TermVersion = Pick<
  VersionsTable,
  "vector" | "digest" | "model_checksum" | "hidden_size" | "layer_count" | "layers"
>;

interface Found extends TermVersion {
  readonly vector_deleted: boolean;
  readonly revoked: boolean;
  readonly model_registered: boolean;
}

/**
 * Look up what terms stand for now, all at once.
 *
 * @param options - `inForce`: what is revoked or deleted is taken all the same
 * @throws ServiceError RESOURCE_NOT_FOUND, RESOURCE_DELETED (its vector), VERSION_REVOKED, MODEL_NOT_FOUND, and MODEL_MISMATCH
 *   where the terms are of several models
 */
export async function resolveTerms(
  db: Tx,
  tenant: string,
  written: readonly WrittenTerm[],
  { inForce }: { readonly inForce: boolean },
): Promise<readonly [ResolvedTerm, ...ResolvedTerm[]]> {
  const { rows } = await sql<Found | { readonly digest: null }>`
    SELECT v.vector, v.digest, v.model_checksum, v.hidden_size, v.layer_count, v.layers,
      o.deleted_at IS NOT NULL AS vector_deleted,
      EXISTS (SELECT FROM revocations r WHERE (r.tenant, r.digest) = (v.tenant, v.digest)) AS revoked,
      EXISTS (SELECT FROM models m WHERE m.model_checksum = v.model_checksum AND m.deleted_at IS NULL) AS model_registered
    FROM unnest(${written.map(({ vector }) => vector)}::text[], ${written.map(({ alias }) => alias)}::text[],
                ${written.map(({ digest }) => digest)}::text[]) WITH ORDINALITY AS w (vector, alias, digest, place)
    LEFT JOIN aliases a ON a.tenant = ${tenant} AND a.vector = w.vector AND a.alias = w.alias
    LEFT JOIN versions v ON v.tenant = ${tenant} AND v.vector = w.vector AND v.digest = coalesce(w.digest, a.digest)
    LEFT JOIN vectors o ON o.tenant = v.tenant AND o.vector = v.vector
    ORDER BY w.place`.execute(db);
  const terms = written.map((term, index): ResolvedTerm => {
    const found = rows[index];
    if (found === undefined || found.digest === null) throw notFound(term.name);
    if (!inForce) requireUsable(found, tenant, term);
    return { written: term, version: found };
  });
  requireOneModel(terms);
  return terms as unknown as readonly [ResolvedTerm, ...ResolvedTerm[]];
}

function requireUsable(found: Found, tenant: string, term: WrittenTerm): void {
  if (found.vector_deleted) throw deleted(VECTOR_NAME.format({ tenant, vector: found.vector }));
  const version = VERSION_NAME.format({ tenant, ...found });
  if (found.revoked) {
    const meant = version === term.name ? `"${version}"` : `"${version}", which "${term.name}" points at,`;
    throw new ServiceError("VERSION_REVOKED", `${meant} is revoked; use another version`, {
      metadata: { resource: version },
    });
  }
  if (!found.model_registered) {
    throw new ServiceError(
      "MODEL_NOT_FOUND",
      `"${version}" is for model ${found.model_checksum}, which is not registered`,
      {
        metadata: { resource: version, modelChecksum: found.model_checksum },
      },
    );
  }
}

function requireOneModel([first, ...others]: readonly ResolvedTerm[]): void {
  const other = others.find(({ version }) => version.model_checksum !== first?.version.model_checksum);
  if (first === undefined || other === undefined) return;
  throw new ServiceError(
    "MODEL_MISMATCH",
    `"${first.written.name}" was made on model ${first.version.model_checksum}, "${other.written.name}" on model ${other.version.model_checksum}; a persona's terms are of one model`,
    { metadata: { model: first.version.model_checksum, otherModel: other.version.model_checksum } },
  );
}
