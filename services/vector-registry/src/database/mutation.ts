import { create, type DescMessage, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { type Change, ChangeSchema } from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { canonicalJson, type JsonValue } from "@persona-mesh/steering";
import { type Selectable, sql } from "kysely";
import { sendAhead } from "./registry-dialect.ts";
import type { TenantsTable } from "./schema.ts";
import { setTenant, type Tx } from "./tx.ts";

/** Told to whoever waits for changes; the table of changes is the truth. */
export const CHANGES_CHANNEL = "persona_changes";

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

/** The changes of a mutation, as they stand in the table. */
export interface WrittenChanges {
  readonly revision: bigint;
  readonly changes: readonly {
    readonly modelChecksum: string | null;
    /** persona.registry.v1.Change, binary. */
    readonly body: Uint8Array;
  }[];
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
  async sayAnnouncements(): Promise<void> {
    if (this.#announcements.length === 0) return;
    // What was sent ahead may be refused yet.
    await sql`SELECT 1`.execute(this.db);
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

  /**
   * Write what was collected, ahead of the commit. Called once, at the end.
   *
   * @returns what workers are to hear, once it is committed; undefined where they hear nothing
   */
  async finish(): Promise<WrittenChanges | undefined> {
    const revision = this.#changes.length > 0 ? await this.takeRevision() : this.#revision;
    const changes = this.#changes.map(({ modelChecksum, change }) => {
      const message: Change = create(ChangeSchema, change);
      if (message.tenant === "") message.tenant = this.#tenant;
      return {
        tenant: message.tenant,
        modelChecksum,
        body: Buffer.from(toBinary(ChangeSchema, message)),
      };
    });
    if (revision !== undefined && changes.length > 0) await this.#writeChanges(revision, changes);
    await this.#writeAudit(revision);
    return revision === undefined ? undefined : { revision, changes };
  }

  /** With the word to other replicas, which goes out at the commit. */
  async #writeChanges(
    revision: bigint,
    changes: readonly (WrittenChanges["changes"][number] & { readonly tenant: string })[],
  ): Promise<void> {
    const parts = changes.map((_, part) => part);
    const tenants = changes.map(({ tenant }) => tenant);
    const models = changes.map(({ modelChecksum }) => modelChecksum);
    const bodies = changes.map(({ body }) => body);
    const statement = sql`
      WITH told AS (
        INSERT INTO changes (revision, part, tenant, model_checksum, body)
        SELECT ${revision}::bigint, c.* FROM unnest(
          ${parts}::integer[], ${tenants}::text[], ${models}::text[], ${bodies}::bytea[]) AS c)
      SELECT pg_notify(${CHANGES_CHANNEL}, ${String(revision)})`;
    await sendAhead(this.db, statement.compile(this.db));
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
        const entry = this.db.insertInto("audit").values({ tenant, chain: "CHANGES", payload });
        await sendAhead(this.db, entry.compile());
      }
      if (tenant !== this.#tenant) await setTenant(this.db, this.#tenant);
    }
  }
}
