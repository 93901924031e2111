import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type Kysely,
  PostgresDialect,
  PostgresDriver,
} from "kysely";
import { DatabaseError, type Pool, type PoolClient, type QueryResult } from "pg";
import { isConnectionLost, isNeverSent } from "./connection-lost.ts";
import type { Database } from "./schema.ts";

/**
 * Thrown when the connection broke after COMMIT was sent and before its answer came: the transaction may or may not be
 * in force. Only asking again under the same request id tells.
 */
export class CommitUnknownError extends Error {
  override readonly name = "CommitUnknownError";
}

/**
 * kysely's PostgreSQL dialect, with what a store of record needs: a lost COMMIT is told apart from a failed one, a failed
 * ROLLBACK does not hide why it was wanted, and a connection whose answer did not come is thrown away. And with what makes it
 * quick: statements are planned once per session, and those that answer nothing are not waited for.
 *
 * The pool's clients must take statements while others are under way (`pipeline`).
 */
export class RegistryDialect extends PostgresDialect {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    super({ pool: pool as never });
    this.#pool = pool;
  }

  override createDriver(): Driver {
    return new RegistryDriver({ pool: discardingPool(this.#pool) as never });
  }
}

class RegistryDriver extends PostgresDriver {
  override async commitTransaction(connection: DatabaseConnection): Promise<void> {
    try {
      await super.commitTransaction(connection as never);
    } catch (error) {
      if (!isConnectionLost(error) || isNeverSent(error)) throw error;
      throw new CommitUnknownError("the connection broke during COMMIT", { cause: error });
    }
  }

  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    try {
      await super.rollbackTransaction(connection as never);
    } catch {
      // The driver has marked the connection for discard; the server rolls back when it sees it gone. What led here is
      // thrown by kysely after this call, and would be lost if this one threw.
    }
  }
}

/** The pool, with connections that are closed instead of returned once an answer is missing. */
function discardingPool(pool: Pool) {
  const clients = new WeakMap<PoolClient, RegistryClient>();
  const plans = new PlanNames();
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      // One wrapper per client for its whole life: kysely keeps what it knows of a connection by this object.
      const wrapper = clients.get(client) ?? new RegistryClient(client, plans);
      clients.set(client, wrapper);
      return wrapper;
    },
  };
}

/** Marks what {@link sendAhead} sends. */
const AHEAD = "/* ahead */ ";
const BEGIN = /^(begin|start transaction)\b/;

/**
 * Send a statement whose answer nobody needs, and do not wait for it: it travels with the next one. If it fails, the next one
 * does, with its error; a COMMIT after it never takes effect then.
 */
export async function sendAhead(db: Kysely<Database>, { sql, parameters }: CompiledQuery): Promise<void> {
  await db.executeQuery(CompiledQuery.raw(AHEAD + sql, [...parameters]));
}

/** A connection that takes further statements while earlier ones are under way; the server works them off in order. */
class RegistryClient {
  readonly #client: PoolClient;
  readonly #plans: PlanNames;
  /** Statements that the next one answers for. */
  #ahead: Promise<unknown>[] = [];
  #broken = false;

  constructor(client: PoolClient, plans: PlanNames) {
    this.#client = client;
    this.#plans = plans;
  }

  async query(text: string, values: unknown[]): Promise<QueryResult> {
    const sent = this.#send(text, values);
    if (text.startsWith(AHEAD) || BEGIN.test(text)) {
      sent.catch(() => {});
      this.#ahead.push(sent);
      return NO_ANSWER;
    }
    const ahead = this.#ahead.splice(0);
    // What is undone may have failed before.
    if (text === "rollback") await Promise.allSettled([...ahead, sent]);
    else await Promise.all([...ahead, sent]);
    return sent;
  }

  release(destroy?: boolean): void {
    this.#client.release(this.#broken || destroy === true || this.#ahead.length > 0);
  }

  async #send(text: string, values: unknown[]): Promise<QueryResult> {
    const name = this.#plans.nameOf(text, values);
    try {
      return await this.#client.query(name === undefined ? { text, values } : { name, text, values });
    } catch (error) {
      this.#broken ||= isConnectionLost(error);
      if (isStalePlan(error)) this.#plans.forget();
      throw error;
    }
  }
}

const NO_ANSWER = { command: "", rowCount: 0, oid: 0, fields: [], rows: [] } satisfies QueryResult;

/** Texts that get a name; more are prepared anew each time. Each costs some kilobytes in each of the server's sessions. */
const MAX_NAMES = 512;
/** Longer ones were made for their number of rows, and hardly come again. */
const MAX_NAMED_TEXT = 4096;
const PREPARABLE = /^\s*(\/\* ahead \*\/\s*)?(select|insert|update|delete|with)\b/i;

/** Names under which sessions keep what they have parsed and planned: most of what a small statement costs. */
class PlanNames {
  #names = new Map<string, string>();
  /** Names are never given twice: sessions keep the old ones. */
  #count = 0;

  nameOf(text: string, values: readonly unknown[]): string | undefined {
    const known = this.#names.get(text);
    if (known !== undefined) return known;
    if (this.#names.size >= MAX_NAMES || text.length > MAX_NAMED_TEXT || !PREPARABLE.test(text)) return undefined;
    // A whole file of statements, as migrations are: those cannot be prepared.
    if (values.length === 0 && text.includes(";")) return undefined;
    const name = `p${++this.#count}`;
    this.#names.set(text, name);
    return name;
  }

  forget(): void {
    this.#names = new Map();
  }
}

/** Whether a statement was prepared before its table was changed: it is to be prepared anew, as it will be the next time. */
export function isStalePlan(error: unknown): boolean {
  return error instanceof DatabaseError && error.code === "0A000" && error.routine === "RevalidateCachedQuery";
}
