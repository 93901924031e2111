import { type Page, pageOf } from "../paging.ts";

/** A page of big rows is cut short of this, far below what a message may have. Bytes. */
const MAX_PAGE_BYTES = 2 * 1024 * 1024;

/**
 * A page that also fits into one message: it has fewer rows where they are big, and a token for the rest.
 *
 * @param sizes - of the rows that the page would have, estimated, in bytes; at least one row is always taken
 */
export function fittingPage(
  request: { readonly pageSize: number; readonly pageToken: string },
  sizes: readonly number[],
  ...query: readonly unknown[]
): Page {
  let total = 0;
  const over = sizes.findIndex((size, index) => {
    total += size;
    return index > 0 && total > MAX_PAGE_BYTES;
  });
  const page = pageOf(request, ...query);
  return over < 0 || over >= page.limit ? page : pageOf({ ...request, pageSize: over }, ...query);
}
