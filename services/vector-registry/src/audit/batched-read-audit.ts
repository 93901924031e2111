import { type Logger, ServiceError } from "@persona-mesh/service";
import { canonicalJson } from "@persona-mesh/steering";
import { type Kysely, sql } from "kysely";
import type { Database } from "../database/schema.ts";
import type { ReadAudit, ReadEntry } from "./read-audit.ts";

export interface BatchedReadAuditOptions {
  /** Reads that wait to be written; more are refused. @default 10000 */
  readonly maxWaiting?: number;
  /** Tenants whose reads are written at once: each takes a connection. @default 3 */
  readonly maxWriters?: number;
}

/** Reads in one entry of the audit: keeps its payload near 64 KiB, so that lists and exports stay quick. */
const MAX_BATCH = 128;

/** Longest text of a field, in characters; far above what names and ids have. */
const MAX_FIELD_LENGTH = 512;

/** A call that waits until its reads are committed. */
interface Waiting {
  readonly reads: readonly ReadEntry[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Commits reads in groups: while one group of a tenant is being written, the next one collects, so that each read waits for
 * two commits at most and a burst costs few. What cannot be written is not read: its waiters are told.
 */
export class BatchedReadAudit implements ReadAudit, AsyncDisposable {
  readonly #db: Kysely<Database>;
  readonly #log: Logger;
  readonly #maxWaiting: number;
  readonly #maxWriters: number;
  /** By tenant, in the order in which their oldest waiters came. A tenant that is being written is not in it twice. */
  readonly #queues = new Map<string, Waiting[]>();
  readonly #writing = new Set<string>();
  #waiting = 0;
  #closed = false;
  #idle: PromiseWithResolvers<void> | undefined;

  /** @param db - connected as persona_service */
  constructor(db: Kysely<Database>, log: Logger, options: BatchedReadAuditOptions = {}) {
    this.#db = db;
    this.#log = log;
    this.#maxWaiting = options.maxWaiting ?? 10_000;
    this.#maxWriters = options.maxWriters ?? 3;
  }

  /** Reads that wait to be written. */
  get waiting(): number {
    return this.#waiting;
  }

  async record(reads: readonly ReadEntry[]): Promise<void> {
    requireSane(reads);
    if (this.#closed) throw unavailable("the registry is shutting down");
    if (this.#waiting + reads.length > this.#maxWaiting) {
      throw unavailable(`${this.#waiting} reads wait already for the audit`);
    }
    const byTenant = Map.groupBy(reads, ({ tenant }) => tenant);
    // All or nothing is for the caller: a tenant's part that was written says that bytes may have been read, which is safe.
    await Promise.all([...byTenant].map(([tenant, own]) => this.#enqueue(tenant, own)));
  }

  /** Write what waits; new reads are refused. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    if (this.#waiting === 0) return;
    this.#idle ??= Promise.withResolvers();
    await this.#idle.promise;
  }

  #enqueue(tenant: string, reads: readonly ReadEntry[]): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const queue = this.#queues.get(tenant) ?? [];
    queue.push({ reads, resolve, reject });
    this.#queues.set(tenant, queue);
    this.#waiting += reads.length;
    this.#startWriters();
    return promise;
  }

  #startWriters(): void {
    for (const tenant of this.#queues.keys()) {
      if (this.#writing.size >= this.#maxWriters) return;
      if (!this.#writing.has(tenant)) void this.#writeNext(tenant);
    }
  }

  async #writeNext(tenant: string): Promise<void> {
    const batch = this.#takeBatch(tenant);
    this.#writing.add(tenant);
    const reads = batch.flatMap((it) => it.reads);
    try {
      await this.#write(tenant, reads);
      for (const { resolve } of batch) resolve();
    } catch (error) {
      this.#log.warn({ err: error, tenant, reads: reads.length }, "reads cannot be audited, so they are refused");
      const refusal = unavailable("the read could not be written to the audit", error);
      for (const { reject } of batch) reject(refusal);
    }
    this.#writing.delete(tenant);
    this.#waiting -= reads.length;
    if (this.#waiting === 0) this.#idle?.resolve();
    this.#startWriters();
  }

  /** The oldest waiters of a tenant, as many as fit into one entry; the tenant goes behind the others. */
  #takeBatch(tenant: string): Waiting[] {
    const queue = this.#queues.get(tenant) as Waiting[];
    let reads = 0;
    // One call alone may have more than fit; it is written as it is.
    const end = queue.findIndex((it, at) => {
      reads += it.reads.length;
      return at > 0 && reads > MAX_BATCH;
    });
    const batch = queue.splice(0, end < 0 ? queue.length : end);
    this.#queues.delete(tenant);
    if (queue.length > 0) this.#queues.set(tenant, queue);
    return batch;
  }

  async #write(tenant: string, reads: readonly ReadEntry[]): Promise<void> {
    await this.#db.transaction().execute(async (tx) => {
      const { rows } = await sql<{ now: Date }>`
        SELECT now() AS now, set_config('persona.tenant', ${tenant}, true)`.execute(tx);
      const time = (rows[0] as { now: Date }).now.toISOString();
      const payloads: string[] = [];
      for (let at = 0; at < reads.length; at += MAX_BATCH) {
        payloads.push(payloadOf(time, reads.slice(at, at + MAX_BATCH)));
      }
      for (const payload of payloads) {
        await tx.insertInto("audit").values({ tenant, chain: "READS", payload }).execute();
      }
    });
  }
}

function payloadOf(time: string, reads: readonly ReadEntry[]): string {
  return canonicalJson({
    action: "ReadContent",
    time,
    reads: reads.map(({ actor, callId, digest, purpose, resource }) => ({ actor, callId, digest, purpose, resource })),
  });
}

/** What the audit cannot hold is a defect of the caller, not a read to be done without it. */
function requireSane(reads: readonly ReadEntry[]): void {
  for (const { actor, callId, digest, purpose, resource } of reads) {
    for (const text of [actor, callId, digest, purpose, resource]) {
      // PostgreSQL stores no NUL, and lone surrogates have no bytes to hash.
      if (text.length > MAX_FIELD_LENGTH || text.includes("\0") || !text.isWellFormed()) {
        throw unavailable("the read has a name that the audit cannot hold");
      }
    }
  }
}

function unavailable(message: string, cause?: unknown): ServiceError {
  return new ServiceError("AUDIT_UNAVAILABLE", message, cause === undefined ? {} : { cause });
}
