import { LocalError } from "../local-error.ts";

/** Asked for at a time: what the registry gives at most. */
const PAGE_SIZE = 1000;

interface PageRequest {
  readonly pageSize?: number;
  readonly pageToken?: string;
}

/**
 * Everything that a list has, page by page; a page is only asked for when the one before was read.
 *
 * @throws LocalError RESPONSE_INVALID where a page points at itself
 */
export async function* everyPage<Request extends object, Page extends { readonly nextPageToken: string }, Item>(
  call: (request: Request & { pageSize: number; pageToken: string }) => Promise<Page>,
  request: Request,
  itemsOf: (page: Page) => readonly Item[],
): AsyncGenerator<Item, void, undefined> {
  const { pageSize = PAGE_SIZE, pageToken: firstToken = "" }: PageRequest = request;
  let pageToken = firstToken;
  do {
    const page = await call({ ...request, pageSize, pageToken });
    yield* itemsOf(page);
    if (page.nextPageToken === pageToken && pageToken !== "") {
      throw new LocalError("RESPONSE_INVALID", "the registry's list does not end");
    }
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
}
