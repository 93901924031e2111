import { type DatabaseConnection, type Driver, PostgresDialect, PostgresDriver } from "kysely";
import type { Pool, PoolClient } from "pg";
import { isConnectionLost } from "./connection-lost.ts";

/**
 * Thrown when the connection broke after COMMIT was sent and before its answer came: the transaction may or may not be
 * in force. Only asking again under the same request id tells.
 */
export class CommitUnknownError extends Error {
  override readonly name = "CommitUnknownError";
}

/**
 * kysely's PostgreSQL dialect, with three things that a store of record needs: a lost COMMIT is told apart from a failed
 * one, a failed ROLLBACK does not hide why it was wanted, and a connection whose answer did not come is thrown away.
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
      if (!isConnectionLost(error)) throw error;
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
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect();
      return discardingClient(client);
    },
  };
}

const wrapped = new WeakMap<PoolClient, DiscardingClient>();

/** One wrapper per client for its whole life: kysely keeps what it knows of a connection by this object. */
function discardingClient(client: PoolClient): DiscardingClient {
  const known = wrapped.get(client);
  if (known !== undefined) return known;
  const made = new DiscardingClient(client);
  wrapped.set(client, made);
  return made;
}

class DiscardingClient {
  readonly #client: PoolClient;
  #broken = false;

  constructor(client: PoolClient) {
    this.#client = client;
  }

  async query(text: string, values: unknown[]) {
    try {
      return await this.#client.query(text, values);
    } catch (error) {
      this.#broken ||= isConnectionLost(error);
      throw error;
    }
  }

  release(destroy?: boolean): void {
    this.#client.release(this.#broken || destroy === true);
  }
}
