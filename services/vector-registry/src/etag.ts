import { ServiceError } from "@persona-mesh/service";

/** A row's etag as callers see it. Opaque to them. */
export function etagOf(row: { readonly etag: bigint }): string {
  return row.etag.toString(36);
}

/** Refuse to write over what the caller has not seen. @throws ServiceError ETAG_MISMATCH where one is given and is not the current one */
export function requireEtag(given: string, row: { readonly etag: bigint }, resource: string): void {
  if (given === "" || given === etagOf(row)) return;
  throw new ServiceError("ETAG_MISMATCH", `"${resource}" was changed meanwhile; read it again`, {
    metadata: { resource, etag: etagOf(row) },
  });
}
