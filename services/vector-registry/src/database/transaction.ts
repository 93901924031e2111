import { create, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { type CallContext, PLATFORM_TENANT, requireTenant, ServiceError } from "@persona-mesh/service";
import { type Kysely, type Selectable, sql } from "kysely";
import { DatabaseError } from "pg";
import { notFound } from "../failures.ts";
import { Mutation, type MutationScope, type WrittenChanges } from "./mutation.ts";
import { isStalePlan } from "./registry-dialect.ts";
import { answerOf, rememberAnswer, requireRequestId } from "./repeated-requests.ts";
import type { Database, TenantsTable } from "./schema.ts";
import { setTenant, type Tx } from "./tx.ts";

/** A transaction that loses against another one is tried again, whole: so often. */
const MAX_TRIES = 4;

/** Transactions of the service role, each for one tenant. */
export class Transactor {
  readonly #db: Kysely<Database>;
  readonly #onCommitted: (written: WrittenChanges) => void;

  /**
   * @param db - connected as persona_service
   * @param onCommitted - told what workers are to hear, when it is in force and before its caller has the answer
   */
  constructor(db: Kysely<Database>, onCommitted: (written: WrittenChanges) => void = () => {}) {
    this.#db = db;
    this.#onCommitted = onCommitted;
  }

  /**
   * Read as one tenant.
   *
   * @param resource - what was asked for, for the answer to callers without rights
   * @throws ServiceError RESOURCE_NOT_FOUND for foreign tenants, and whatever `body` throws
   */
  async read<T>(context: CallContext, tenant: string, resource: string, body: (db: Tx) => Promise<T>): Promise<T> {
    requireTenant(context.caller, tenant, () => notFound(resource));
    return this.#transaction("read only", tenant, async (tx) => ({ result: await body(tx), isDone: false }));
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
      const { now, tenantRow } = await begin(tx, tenant, resource);
      const repeated = await answerOf(tx, scope);
      if (repeated !== undefined) return { result: repeated, isDone: false };
      if (tenantRow?.deleted_at) {
        throw new ServiceError("RESOURCE_DELETED", `tenants/${tenant} is deleted; UndeleteTenant brings it back`);
      }
      const mutation = new Mutation(tx, scope, { tenantRow, now });
      const response = create(responseSchema, await body(mutation)) as MessageShape<Desc>;
      const written = await mutation.finish();
      if (request.validateOnly) {
        // What the database checks at the commit is checked now, before all of it is undone.
        await sql`SET CONSTRAINTS ALL IMMEDIATE`.execute(tx);
        return { result: response, isDone: false };
      }
      await rememberAnswer(tx, scope, response);
      await mutation.sayAnnouncements();
      return { result: response, isDone: true, written };
    });
  }

  async #transaction<T>(
    accessMode: "read only" | "read write",
    tenant: string,
    body: (tx: Tx) => Promise<Outcome<T>>,
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
    body: (tx: Tx) => Promise<Outcome<T>>,
  ): Promise<T> {
    const tx = await this.#db.startTransaction().setAccessMode(accessMode).execute();
    let outcome: Outcome<T>;
    try {
      await setTenant(tx, tenant);
      outcome = await body(tx);
      // A connection that is lost here leaves the outcome open: the driver says so (COMMIT_UNKNOWN).
      if (outcome.isDone) await tx.commit().execute();
    } catch (error) {
      // Where there is nothing left to undo too: only so does the connection go back to the pool.
      await undo(tx);
      throw error;
    }
    if (!outcome.isDone) await undo(tx);
    else if (outcome.written !== undefined) this.#onCommitted(outcome.written);
    return outcome.result;
  }
}

/** What a transaction came to. */
interface Outcome<T> {
  readonly result: T;
  /** Whether it is to be committed, or undone. */
  readonly isDone: boolean;
  readonly written?: WrittenChanges | undefined;
}

async function undo(tx: Tx): Promise<void> {
  await tx
    .rollback()
    .execute()
    .catch(() => {});
}

/** Nothing was done, and the same again may succeed: it lost against another one, or the schema has changed. */
function isRetriable(error: unknown): boolean {
  return isStalePlan(error) || (error instanceof DatabaseError && (error.code === "40001" || error.code === "40P01"));
}

/** When the transaction began, and its tenant's row, locked; none for the platform. */
async function begin(
  tx: Tx,
  tenant: string,
  resource: string,
): Promise<{ readonly now: Date; readonly tenantRow: Selectable<TenantsTable> | undefined }> {
  if (tenant === PLATFORM_TENANT) {
    const { rows } = await sql<{ now: Date }>`SELECT now()`.execute(tx);
    return { now: (rows[0] as { now: Date }).now, tenantRow: undefined };
  }
  const row = await tx
    .selectFrom("tenants")
    .selectAll()
    .select(sql<Date>`now()`.as("now"))
    .where("tenant", "=", tenant)
    .forNoKeyUpdate()
    .executeTakeFirst();
  if (row === undefined) throw notFound(resource);
  const { now, ...tenantRow } = row;
  return { now, tenantRow };
}
