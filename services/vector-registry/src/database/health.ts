import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface HealthOptions {
  /** Between two looks, in milliseconds. @default 2000 */
  readonly intervalMs?: number;
  /** Called when the answer changes, with what stood in the way. */
  readonly onChange?: (ready: boolean, error?: unknown) => void;
}

export interface DatabaseHealth {
  /** Whether the last look found a database that answers and takes writes. */
  readonly ready: boolean;
  close(): void;
}

/**
 * Look at the database again and again, for readiness: a replica without its database takes no calls, and is back by
 * itself when the database is. A standby does not count: the registry writes.
 *
 * @param db - connected under any role; its timeouts bound each look
 */
export function watchDatabase(db: Kysely<Database>, options: HealthOptions = {}): DatabaseHealth {
  let ready = false;
  let closed = false;
  let timer: NodeJS.Timeout | undefined;
  const look = async () => {
    let error: unknown;
    const before = ready;
    try {
      await assertWritable(db);
      ready = true;
    } catch (caught) {
      error = caught;
      ready = false;
    }
    if (closed) return;
    if (ready !== before) options.onChange?.(ready, error);
    timer = setTimeout(look, options.intervalMs ?? 2_000);
    timer.unref();
  };
  void look();
  return {
    get ready() {
      return ready && !closed;
    },
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

/** @throws whatever the driver says, or an Error where the server is a standby or was told to take no writes */
export async function assertWritable(db: Kysely<Database>): Promise<void> {
  const { rows } = await sql<{
    read_only: string;
  }>`SELECT current_setting('transaction_read_only') AS read_only`.execute(db);
  if (rows[0]?.read_only !== "off") throw new Error("the database takes no writes");
}
