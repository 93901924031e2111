import { createHash } from "node:crypto";
import {
  create,
  type DescMessage,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type Change, ChangeSchema } from "@persona-mesh/protocol/registry";
import { type CallContext, PLATFORM_TENANT, requireTenant, ServiceError } from "@persona-mesh/service";
import { canonicalJson, type JsonValue } from "@persona-mesh/steering";
import { type ControlledTransaction, type Kysely, type Selectable, sql } from "kysely";
import { DatabaseError } from "pg";
import { notFound } from "../failures.ts";
import type { Database, TenantsTable } from "./schema.ts";

/** A connection in the middle of a transaction that acts for one tenant. */
export type Tx = ControlledTransaction<Database>;

/** Told to whoever waits for changes; the table of changes is the truth. */
export const CHANGES_CHANNEL = "persona_changes";

/** A transaction that loses against another one is tried again, whole: so often. */
const MAX_TRIES = 4;

/** One mutating call. */
export interface MutationScope<Desc extends DescMessage> {
  readonly context: CallContext;
  /** Whose data is changed: an id, or {@link PLATFORM_TENANT}. */
  readonly tenant: string;
  /** What the caller asked to change, for the answer to callers without rights. */
  readonly resource: string;
  /** The request as it came: a repeated one must be the same. */
  readonly request: Message & { readonly requestId: string; readonly validateOnly: boolean };
  readonly requestSchema: DescMessage;
  readonly responseSchema: Desc;
}

/** What an audit entry says beside who, when and under which request. */
export interface AuditFacts {
  /** The call's name, such as "PublishVersion". */
  readonly action: string;
  /** Resource name. */
  readonly resource: string;
  /** What it was and what it became; absent for what was not there. No vector bytes: their digest. */
  readonly before?: JsonValue;
  readonly after?: JsonValue;
  readonly reason?: string;
  /** In whose chain; the tenant of the transaction where unset. Others only for the platform. */
  readonly tenant?: string;
}

/** A change that workers hear of. */
export interface EmittedChange {
  /** Which workers; all where null. */
  readonly modelChecksum: string | null;
  /** Its `tenant` is filled in where it is empty. */
  readonly change: MessageInitShape<typeof ChangeSchema>;
}

/**
 * A mutation under way. The tenant's row is locked from the start, so mutations of one tenant follow one another: what
 * a gate has seen stays true until the commit.
 */
export class Mutation {
  readonly db: Tx;
  /** Who acts. */
  readonly actor: string;
  readonly context: CallContext;
  /** The locked row; undefined for the platform. */
  readonly tenantRow: Selectable<TenantsTable> | undefined;
  /** When the transaction began, by the database's clock. */
  readonly now: Date;
  readonly #tenant: string;
  readonly #requestId: string;
  readonly #facts: AuditFacts[] = [];
  readonly #changes: EmittedChange[] = [];
  readonly #announcements: (() => void)[] = [];
  #revision: bigint | undefined;

  constructor(
    db: Tx,
    scope: Pick<MutationScope<DescMessage>, "context" | "tenant" | "request">,
    { tenantRow, now }: { tenantRow: Selectable<TenantsTable> | undefined; now: Date },
  ) {
    this.db = db;
    this.context = scope.context;
    this.actor = scope.context.caller.subject;
    this.#tenant = scope.tenant;
    this.#requestId = scope.request.requestId;
    this.tenantRow = tenantRow;
    this.now = now;
  }

  /** Write this down, in the same transaction. Every mutation does so at least once, or the database refuses it. */
  audit(facts: AuditFacts): void {
    this.#facts.push(facts);
  }

  /** Tell workers. All changes of a mutation get one revision and take effect together. */
  emit(change: EmittedChange): void {
    this.#changes.push(change);
  }

  /**
   * Say this in the log when the mutation is about to be committed: not for a trial, nor for one that is refused. Before the
   * commit rather than after it, so that nothing is left unsaid where its outcome stays unknown.
   */
  announce(fields: Readonly<Record<string, string>>, message: string): void {
    this.#announcements.push(() => this.context.log.warn(fields, message));
  }

  /** Say what is to be said. */
  sayAnnouncements(): void {
    for (const say of this.#announcements) say();
  }

  /** Whether workers hear of it. */
  get tells(): boolean {
    return this.#changes.length > 0;
  }

  /** Act for another tenant for a while: the platform, which makes tenants and takes them away. */
  async as<T>(tenant: string, body: () => Promise<T>): Promise<T> {
    await setTenant(this.db, tenant);
    const result = await body();
    await setTenant(this.db, this.#tenant);
    return result;
  }

  /**
   * The revision under which workers hear of this mutation. Asked for last: from here to the commit every other
   * mutation that workers hear of waits.
   */
  async takeRevision(): Promise<bigint> {
    if (this.#revision !== undefined) return this.#revision;
    const row = await this.db
      .updateTable("revision_counter")
      .set({ revision: sql`revision + 1` })
      .returning("revision")
      .executeTakeFirstOrThrow();
    this.#revision = row.revision;
    return row.revision;
  }

  /** Write what was collected. Called once, at the end. */
  async finish(): Promise<void> {
    const revision = this.#changes.length > 0 ? await this.takeRevision() : this.#revision;
    if (revision !== undefined && this.#changes.length > 0) await this.#writeChanges(revision);
    await this.#writeAudit(revision);
  }

  async #writeChanges(revision: bigint): Promise<void> {
    const rows = this.#changes.map(({ modelChecksum, change }, part) => {
      const message: Change = create(ChangeSchema, change);
      if (message.tenant === "") message.tenant = this.#tenant;
      return {
        revision,
        part,
        tenant: message.tenant,
        model_checksum: modelChecksum,
        body: Buffer.from(toBinary(ChangeSchema, message)),
      };
    });
    await this.db.insertInto("changes").values(rows).execute();
    await sql`SELECT pg_notify(${CHANGES_CHANNEL}, ${String(revision)})`.execute(this.db);
  }

  async #writeAudit(revision: bigint | undefined): Promise<void> {
    const { caller, requestId: callId, method } = this.context;
    // Chains are locked in the order of their names: two platform operators cannot wait for each other.
    const byTenant = Map.groupBy(this.#facts, ({ tenant }) => tenant ?? this.#tenant);
    for (const tenant of [...byTenant.keys()].sort()) {
      if (tenant !== this.#tenant) await setTenant(this.db, tenant);
      for (const { action, resource, before, after, reason } of byTenant.get(tenant) ?? []) {
        const payload = canonicalJson({
          time: this.now.toISOString(),
          actor: caller.subject,
          roles: [...caller.roles].sort(),
          action,
          resource,
          ...(before === undefined ? {} : { before }),
          ...(after === undefined ? {} : { after }),
          ...(reason ? { reason } : {}),
          ...(this.#requestId === "" ? {} : { requestId: this.#requestId }),
          callId,
          method,
          ...(revision === undefined ? {} : { revision: String(revision) }),
        });
        await this.db.insertInto("audit").values({ tenant, chain: "CHANGES", payload }).execute();
      }
      if (tenant !== this.#tenant) await setTenant(this.db, this.#tenant);
    }
  }
}

/** Transactions of the service role, each for one tenant. */
export class Transactor {
  readonly #db: Kysely<Database>;

  /** @param db - connected as persona_service */
  constructor(db: Kysely<Database>) {
    this.#db = db;
  }

  /**
   * Read as one tenant.
   *
   * @param resource - what was asked for, for the answer to callers without rights
   * @throws ServiceError RESOURCE_NOT_FOUND for foreign tenants, and whatever `body` throws
   */
  async read<T>(context: CallContext, tenant: string, resource: string, body: (db: Tx) => Promise<T>): Promise<T> {
    requireTenant(context.caller, tenant, () => notFound(resource));
    return this.#transaction("read only", tenant, async (tx) => ({ result: await body(tx), commit: false }));
  }

  /**
   * Change things as one tenant: all of it with its audit entries and changes, or nothing.
   *
   * `body` may run more than once. With `validate_only` everything is tried and rolled back; with a request id that was
   * seen before, the first answer is given again and nothing is done.
   *
   * @throws ServiceError RESOURCE_NOT_FOUND for foreign and unknown tenants, RESOURCE_DELETED, REQUEST_ID_REUSED, CONFLICT,
   *   COMMIT_UNKNOWN, DATABASE_UNAVAILABLE, and whatever `body` throws
   */
  async mutate<Desc extends DescMessage>(
    scope: MutationScope<Desc>,
    body: (mutation: Mutation) => Promise<MessageInitShape<Desc>>,
  ): Promise<MessageShape<Desc>> {
    const { context, tenant, resource, request, responseSchema } = scope;
    requireTenant(context.caller, tenant, () => notFound(resource));
    requireRequestId(request.requestId);
    return this.#transaction("read write", tenant, async (tx) => {
      const { now } = await sql<{ now: Date }>`SELECT now()`.execute(tx).then(({ rows }) => rows[0] as { now: Date });
      const tenantRow = tenant === PLATFORM_TENANT ? undefined : await lockTenant(tx, tenant, resource);
      const repeated = await answerOf(tx, scope);
      if (repeated !== undefined) return { result: repeated, commit: false };
      if (tenantRow?.deleted_at) {
        throw new ServiceError("RESOURCE_DELETED", `tenants/${tenant} is deleted; UndeleteTenant brings it back`);
      }
      const mutation = new Mutation(tx, scope, { tenantRow, now });
      const response = create(responseSchema, await body(mutation)) as MessageShape<Desc>;
      await mutation.finish();
      if (request.validateOnly) {
        // What the database checks at the commit is checked now, before all of it is undone.
        await sql`SET CONSTRAINTS ALL IMMEDIATE`.execute(tx);
        return { result: response, commit: false };
      }
      await rememberAnswer(tx, scope, response);
      mutation.sayAnnouncements();
      return { result: response, commit: true };
    });
  }

  async #transaction<T>(
    accessMode: "read only" | "read write",
    tenant: string,
    body: (tx: Tx) => Promise<{ readonly result: T; readonly commit: boolean }>,
  ): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#once(accessMode, tenant, body);
      } catch (error) {
        if (!isRetriable(error) || tries === MAX_TRIES) throw error;
      }
    }
  }

  async #once<T>(
    accessMode: "read only" | "read write",
    tenant: string,
    body: (tx: Tx) => Promise<{ readonly result: T; readonly commit: boolean }>,
  ): Promise<T> {
    const tx = await this.#db.startTransaction().setAccessMode(accessMode).execute();
    let outcome: { readonly result: T; readonly commit: boolean };
    try {
      await setTenant(tx, tenant);
      outcome = await body(tx);
    } catch (error) {
      // On a dead connection there is nothing left to roll back.
      await tx
        .rollback()
        .execute()
        .catch(() => {});
      throw error;
    }
    if (!outcome.commit) {
      await tx.rollback().execute();
      return outcome.result;
    }
    try {
      // A connection that is lost here leaves the outcome open: the driver says so (COMMIT_UNKNOWN).
      await tx.commit().execute();
    } catch (error) {
      // Nothing is left to undo; but only so does the connection go back to the pool.
      await tx
        .rollback()
        .execute()
        .catch(() => {});
      throw error;
    }
    return outcome.result;
  }
}

/** Lost against another transaction, with nothing done: the same again may succeed. */
function isRetriable(error: unknown): boolean {
  return error instanceof DatabaseError && (error.code === "40001" || error.code === "40P01");
}

/** All that follows in this transaction sees and changes this tenant alone. */
async function setTenant(tx: Tx, tenant: string): Promise<void> {
  await sql`SELECT set_config('persona.tenant', ${tenant}, true)`.execute(tx);
}

async function lockTenant(tx: Tx, tenant: string, resource: string): Promise<Selectable<TenantsTable>> {
  const row = await tx
    .selectFrom("tenants")
    .selectAll()
    .where("tenant", "=", tenant)
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (row === undefined) throw notFound(resource);
  return row;
}

const MAX_REQUEST_ID_LENGTH = 64;

function requireRequestId(requestId: string): void {
  if (requestId.length <= MAX_REQUEST_ID_LENGTH && /^[\x21-\x7e]*$/.test(requestId)) return;
  throw ServiceError.invalid([
    { field: "request_id", description: `must have at most ${MAX_REQUEST_ID_LENGTH} printable ASCII characters` },
  ]);
}

/** The answer that this request got before. @throws ServiceError REQUEST_ID_REUSED */
async function answerOf<Desc extends DescMessage>(
  tx: Tx,
  scope: MutationScope<Desc>,
): Promise<MessageShape<Desc> | undefined> {
  const { context, request, responseSchema, tenant } = scope;
  if (request.requestId === "") return undefined;
  const seen = await tx
    .selectFrom("requests")
    .select(["method", "request_digest", "response"])
    .where("tenant", "=", tenant)
    .where("subject", "=", context.caller.subject)
    .where("request_id", "=", request.requestId)
    .executeTakeFirst();
  if (seen === undefined) return undefined;
  if (seen.method !== context.method || seen.request_digest !== digestOf(scope)) {
    throw new ServiceError("REQUEST_ID_REUSED", `request id "${request.requestId}" was used for another request`);
  }
  return fromBinary(responseSchema, seen.response) as MessageShape<Desc>;
}

async function rememberAnswer<Desc extends DescMessage>(
  tx: Tx,
  scope: MutationScope<Desc>,
  response: MessageShape<Desc>,
): Promise<void> {
  const { context, request, responseSchema, tenant } = scope;
  if (request.requestId === "") return;
  await tx
    .insertInto("requests")
    .values({
      tenant,
      subject: context.caller.subject,
      request_id: request.requestId,
      method: context.method,
      request_digest: digestOf(scope),
      response: Buffer.from(toBinary(responseSchema, response)),
    })
    .execute();
}

function digestOf({ request, requestSchema }: Pick<MutationScope<DescMessage>, "request" | "requestSchema">): string {
  return createHash("sha256").update(toBinary(requestSchema, request)).digest("hex");
}
