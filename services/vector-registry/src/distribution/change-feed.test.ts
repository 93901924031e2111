import { create } from "@bufbuild/protobuf";
import { ChangeSchema, CreateTenantRequestSchema, CreateTenantResponseSchema } from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { createLogger } from "@persona-mesh/service";
import { sql } from "kysely";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { CHANGES_CHANNEL } from "../database/mutation.ts";
import { Transactor } from "../database/transaction.ts";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { ChangeFeed, type ReadChanges } from "./change-feed.ts";
import { ChangeListener } from "./change-listener.ts";
import { compact } from "./compaction.ts";

const MODEL = "a".repeat(64);
const OTHER = "b".repeat(64);
const log = createLogger("test", "silent");

let database: TestDatabase;
let opened: AsyncDisposableStack;
const abort = new AbortController();

beforeAll(async () => {
  // The first one of a process starts the server.
  const first = await openTestDatabase();
  await first.close();
});
beforeEach(async () => {
  opened = new AsyncDisposableStack();
  database = await openTestDatabase();
  opened.defer(database.close);
});
afterEach(() => opened.disposeAsync());
afterAll(() => abort.abort());

function openFeed() {
  const { db, pool } = database.connect("persona_watch");
  const listener = opened.use(new ChangeListener(pool, CHANGES_CHANNEL, log));
  return ChangeFeed.open(db, listener, log).then((feed) => opened.use(feed));
}

const caller = { subject: "ops", tenant: "platform", roles: new Set(["admin" as const]) };
const context = { caller, requestId: "call", method: "/test" } as unknown as CallContext;

/** Changes of one revision, for one model each; `null` is for all. */
function write(transactor: Transactor, models: readonly (string | null)[], label = "x"): Promise<unknown> {
  return transactor.mutate(
    {
      context,
      tenant: "platform",
      resource: "tenants/acme",
      request: create(CreateTenantRequestSchema),
      requestSchema: CreateTenantRequestSchema,
      responseSchema: CreateTenantResponseSchema,
    },
    async (mutation) => {
      mutation.audit({ action: "Test", resource: "tenants/acme" });
      for (const modelChecksum of models) {
        const change = create(ChangeSchema, {
          tenant: "acme",
          state: { case: "versionRevoked", value: { digest: label } },
        });
        mutation.emit({ modelChecksum, change });
      }
      return {};
    },
  );
}

/** What no role of ours can do: as the superuser, past every trigger. */
async function damage(statement: string): Promise<void> {
  await database.owner.pool.query(
    `BEGIN; SET LOCAL session_replication_role = replica; SET LOCAL search_path = registry; ${statement}; COMMIT`,
  );
}

/** Follow a model from a position until a revision. */
async function follow(feed: ChangeFeed, model: string, from: bigint, until: bigint): Promise<ReadChanges[]> {
  const seen: ReadChanges[] = [];
  for (let position = from; position < until; ) {
    await feed.wait(position, 1000, abort.signal);
    const reading = await feed.read(model, position);
    if (reading.kind !== "changes") throw new Error(reading.kind);
    seen.push(...reading.sets);
    position = reading.upTo;
  }
  return seen;
}

test("a watcher sees every revision once and in order, whichever replica wrote it and however many write at once", async () => {
  const feed = await openFeed();
  // The first writes at the feed's own replica.
  const writers = Array.from({ length: 4 }, (_, n) => {
    const { db } = database.connect("persona_service");
    return n === 0 ? new Transactor(db, (written) => feed.offer(written)) : new Transactor(db);
  });
  const following = follow(feed, MODEL, 0n, 120n);
  await Promise.all(
    writers.map(async (writer) => {
      for (let n = 0; n < 30; n++) await write(writer, [MODEL]);
    }),
  );
  const seen = await following;
  expect(seen.map(({ revision }) => revision)).toEqual(Array.from({ length: 120 }, (_, n) => BigInt(n + 1)));
});

test("what its own replica commits is there at once; what others committed before is read with it", async () => {
  const feed = await openFeed();
  const { db } = database.service;
  const own = new Transactor(db, (written) => feed.offer(written));
  await write(own, [MODEL, OTHER, null], "own");
  expect(feed.head).toBe(1n);
  const offered = await feed.read(MODEL, 0n);
  // A feed that was not offered it reads the same.
  const other = await openFeed();
  expect(await other.read(MODEL, 0n)).toEqual(offered);
  expect(offered.kind === "changes" && offered.sets.map(({ changes }) => changes.length)).toEqual([2]);
  feed.offer({ revision: 9n, changes: [] });
  feed.offer({ revision: 1n, changes: [] });
  expect(feed.head).toBe(1n);
  await write(new Transactor(db), [MODEL], "other");
  await write(own, [MODEL], "own");
  expect((await follow(feed, MODEL, 1n, 3n)).map(({ revision }) => revision)).toEqual([2n, 3n]);
});

test("a transaction that is slow to commit holds later revisions back: none is seen before it", async () => {
  const feed = await openFeed();
  const slow = database.connect("persona_service").db;
  const tx = await slow.startTransaction().execute();
  await sql`SELECT set_config('persona.tenant', 'platform', true)`.execute(tx);
  await tx.updateTable("revision_counter").set({ revision: sql`revision + 1` }).execute();
  const later = write(new Transactor(database.service.db), [MODEL], "later");
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(await feed.read(MODEL, 0n)).toEqual({ kind: "changes", sets: [], upTo: 0n });
  await tx
    .insertInto("changes")
    .values({ revision: 1n, part: 0, tenant: "acme", model_checksum: MODEL, body: Buffer.alloc(0) })
    .execute();
  await tx.commit().execute();
  await later;
  const seen = await follow(feed, MODEL, 0n, 2n);
  expect(seen.map(({ revision }) => revision)).toEqual([1n, 2n]);
});

test("a watcher gets its own model's changes and those for all, a revision's together", async () => {
  const feed = await openFeed();
  const transactor = new Transactor(database.service.db);
  await write(transactor, [MODEL, null, OTHER], "first");
  await write(transactor, [OTHER], "second");
  const counts = async (model: string) =>
    (await follow(feed, model, 0n, 2n)).map(({ revision, changes }) => [revision, changes.length]);
  expect(await counts(MODEL)).toEqual([[1n, 2]]);
  expect(await counts(OTHER)).toEqual([
    [1n, 2],
    [2n, 1],
  ]);
});

test("a watcher far behind reads from the table what memory has let go, a huge revision included", async () => {
  const feed = await openFeed();
  const transactor = new Transactor(database.service.db);
  await write(
    transactor,
    Array.from({ length: 2500 }, () => MODEL),
  );
  for (let n = 0; n < 3; n++)
    await write(
      transactor,
      Array.from({ length: 1200 }, () => MODEL),
    );
  const seen = await follow(feed, MODEL, 0n, 4n);
  expect(seen.map(({ revision, changes }) => [revision, changes.length])).toEqual([
    [1n, 2500],
    [2n, 1200],
    [3n, 1200],
    [4n, 1200],
  ]);
});

test("a position before the compaction needs a snapshot; one at it goes on", async () => {
  const transactor = new Transactor(database.service.db);
  for (let n = 0; n < 10; n++) await write(transactor, [MODEL]);
  await damage("UPDATE changes SET created_at = now() - interval '1 day'");
  expect(await compact(database.watch.db, { seconds: 3600, changes: 4 })).toBe(6n);
  const feed = await openFeed();
  expect(await feed.read(MODEL, 5n)).toEqual({ kind: "compacted" });
  const reading = await feed.read(MODEL, 6n);
  expect(reading.kind === "changes" && reading.sets.map(({ revision }) => revision)).toEqual([7n, 8n, 9n, 10n]);
  // Young changes stay, however many.
  expect(await compact(database.watch.db, { seconds: 172_800, changes: 1 })).toBe(6n);
});

test("a database whose history went back is noticed", async () => {
  const feed = await openFeed();
  const transactor = new Transactor(database.service.db);
  for (let n = 0; n < 3; n++) await write(transactor, [MODEL]);
  await follow(feed, MODEL, 0n, 3n);
  expect(await feed.knows(3n)).toBe(true);
  expect(await feed.knows(4n)).toBe(false);
  const { history } = feed;
  await damage("WITH gone AS (DELETE FROM changes) UPDATE revision_counter SET revision = 1");
  await expect.poll(() => feed.history, { timeout: 5_000 }).toBe(history + 1);
  expect(feed.head).toBe(1n);
});

test("changes are found without a hint when the listening connection is cut", async () => {
  const feed = await openFeed();
  const transactor = new Transactor(database.service.db);
  await write(transactor, [MODEL]);
  await follow(feed, MODEL, 0n, 1n);
  await damage("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'");
  await write(transactor, [MODEL]);
  expect((await follow(feed, MODEL, 1n, 2n)).map(({ revision }) => revision)).toEqual([2n]);
});
