import { createHash } from "node:crypto";
import { ServiceError } from "@persona-mesh/service";

const DEFAULT_PAGE_SIZE = 50;
const MAX_PAGE_SIZE = 1000;
const MAX_TOKEN_LENGTH = 1024;

/** A page as it is read: `limit + 1` rows after `after` say whether there is a further one. */
export interface Page {
  readonly limit: number;
  /** Key of the last row of the page before; undefined on the first page. */
  readonly after: string | undefined;
  /**
   * The rows of this page, and the token of the next.
   *
   * @param rows - up to `limit + 1`
   * @param isCut - whether more follow although `rows` are fewer, because these are large enough
   */
  take<Row>(
    rows: readonly Row[],
    keyOf: (row: Row) => string,
    isCut?: boolean,
  ): { readonly rows: readonly Row[]; readonly nextPageToken: string };
}

/**
 * The page that a list request asks for.
 *
 * @param query - everything else that the list depends on, such as parent and filters: a token fits one query alone
 * @throws ServiceError INVALID_ARGUMENT
 */
export function pageOf(
  request: { readonly pageSize: number; readonly pageToken: string },
  ...query: readonly unknown[]
): Page {
  // The size is no part of it: callers may change it from page to page.
  const fingerprint = createHash("sha256").update(JSON.stringify(query)).digest("base64url").slice(0, 12);
  if (request.pageSize > MAX_PAGE_SIZE) {
    throw ServiceError.invalid([{ field: "page_size", description: `${request.pageSize} is over ${MAX_PAGE_SIZE}` }]);
  }
  const limit = request.pageSize === 0 ? DEFAULT_PAGE_SIZE : request.pageSize;
  return {
    limit,
    after: request.pageToken === "" ? undefined : keyIn(request.pageToken, fingerprint),
    take(rows, keyOf, isCut = false) {
      const shown = rows.slice(0, limit);
      const last = shown.at(-1);
      const nextPageToken =
        (isCut || rows.length > limit) && last !== undefined ? tokenOf(fingerprint, keyOf(last)) : "";
      return { rows: shown, nextPageToken };
    },
  };
}

function tokenOf(fingerprint: string, key: string): string {
  return Buffer.from(`${fingerprint}${key}`, "utf8").toString("base64url");
}

function keyIn(token: string, fingerprint: string): string {
  const text = token.length > MAX_TOKEN_LENGTH ? "" : Buffer.from(token, "base64url").toString("utf8");
  if (text.startsWith(fingerprint)) return text.slice(fingerprint.length);
  throw ServiceError.invalid([{ field: "page_token", description: "is not one that this list has given" }]);
}
