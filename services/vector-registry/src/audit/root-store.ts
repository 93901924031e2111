import {
  type AuditPublicKey,
  type ChainHead,
  decodeRootBody,
  headLeaf,
  MerkleTree,
  type SignedRoot,
} from "@persona-mesh/audit";
import { type Kysely, type Selectable, sql } from "kysely";
import type { AuditChainName, AuditRootsTable, Database } from "../database/schema.ts";

/** A transaction of persona_auditor. */
export type AuditTx = Kysely<Database>;

/** A head at its place in the tree. */
export interface LeafHead extends ChainHead {
  readonly chain: AuditChainName;
  readonly leaf: number;
}

/** The heads under a root. */
export interface RootHeads {
  /** Of the root; 0 before the first. */
  readonly number: bigint;
  /** By {@link headKey}. */
  readonly heads: Map<string, LeafHead>;
  readonly tree: MerkleTree;
}

export function headKey({ tenant, chain }: Pick<ChainHead, "tenant" | "chain">): string {
  return `${tenant}/${chain}`;
}

/** Names the advisory lock of whoever signs or writes the file of roots; differs from those of migrations and bootstrap. */
const LOCK = "4821093377201945513";

/** One signs at a time, among all replicas. Held to the end of the transaction. @returns whether it was free */
export async function tryLockRoots(tx: AuditTx): Promise<boolean> {
  const { rows } = await sql<{ locked: boolean }>`SELECT pg_try_advisory_xact_lock(${LOCK}) AS locked`.execute(tx);
  return rows[0]?.locked === true;
}

export async function lockRoots(tx: AuditTx): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(${LOCK})`.execute(tx);
}

/** Nobody signs until the end of the transaction: what was signed before `now` can be read. */
export async function lockRootsShared(tx: AuditTx): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock_shared(${LOCK})`.execute(tx);
}

/** By the database's clock, to the millisecond; not when the transaction began, but now. */
export async function databaseTime(tx: AuditTx): Promise<Date> {
  const { rows } = await sql<{ now: Date }>`SELECT clock_timestamp() AS now`.execute(tx);
  return (rows[0] as { now: Date }).now;
}

export async function newestRoot(tx: AuditTx): Promise<SignedRoot | undefined> {
  const row = await tx.selectFrom("audit_roots").selectAll().orderBy("number", "desc").limit(1).executeTakeFirst();
  return row && rootOf(row);
}

/** Roots after `number`, oldest first. */
export async function rootsAfter(tx: AuditTx, number: bigint, limit: number): Promise<SignedRoot[]> {
  const rows = await tx
    .selectFrom("audit_roots")
    .selectAll()
    .where("number", ">", number)
    .orderBy("number")
    .limit(limit)
    .execute();
  return rows.map(rootOf);
}

export async function rootNumbered(tx: AuditTx, number: bigint): Promise<SignedRoot | undefined> {
  const row = await tx.selectFrom("audit_roots").selectAll().where("number", "=", number).executeTakeFirst();
  return row && rootOf(row);
}

function rootOf({ body, key_id: keyId, number, signature }: Selectable<AuditRootsTable>): SignedRoot {
  return { number, body, signature, keyId };
}

/** The heads of all chains under a root. */
export async function headsUnder(tx: AuditTx, root: SignedRoot | undefined): Promise<RootHeads> {
  const heads = new Map<string, LeafHead>();
  if (root === undefined) return { number: 0n, heads, tree: new MerkleTree() };
  const leafCount = decodeRootBody(root.body)?.leafCount ?? 0;
  // A look into the index for each leaf: the table has a row for every move.
  const { rows } = await sql<{ leaf: bigint; tenant: string; chain: AuditChainName; sequence: bigint; hash: string }>`
    SELECT moved.leaf, moved.tenant, moved.chain, moved.sequence, moved.hash
    FROM generate_series(0, ${leafCount}::bigint - 1) AS place(leaf), LATERAL (
      SELECT h.* FROM audit_root_heads h WHERE h.leaf = place.leaf AND h.number <= ${root.number}
      ORDER BY h.number DESC LIMIT 1) moved
    ORDER BY moved.leaf`.execute(tx);
  for (const row of rows) heads.set(headKey(row), { ...row, leaf: Number(row.leaf) });
  return { number: root.number, heads, tree: new MerkleTree(rows.map(headLeaf)) };
}

/** The newest entry of every chain. */
export async function currentHeads(tx: AuditTx): Promise<ChainHead[]> {
  return tx
    .selectFrom("audit_heads")
    .select(["tenant", "chain", "sequence", "hash"])
    .orderBy("tenant")
    .orderBy("chain")
    .execute();
}

/** The given entries that are not in the audit with their hashes; at most one of them. */
export async function missingEntry(tx: AuditTx, entries: readonly ChainHead[]): Promise<ChainHead | undefined> {
  if (entries.length === 0) return undefined;
  const column = (name: keyof ChainHead) => entries.map((entry) => String(entry[name]));
  const { rows } = await sql<ChainHead>`
    SELECT e.* FROM unnest(${column("tenant")}::text[], ${column("chain")}::text[], ${column("sequence")}::bigint[],
                           ${column("hash")}::text[]) AS e (tenant, chain, sequence, hash)
    WHERE NOT EXISTS (SELECT FROM audit a
                      WHERE (a.tenant, a.chain, a.sequence, a.hash) = (e.tenant, e.chain, e.sequence, e.hash))
    LIMIT 1`.execute(tx);
  return rows[0];
}

/** Write a root, and the heads that moved under it with their proofs. */
export async function insertRoot(
  tx: AuditTx,
  { body, keyId, number, signature }: SignedRoot,
  moved: readonly LeafHead[],
  tree: MerkleTree,
): Promise<void> {
  await tx
    .insertInto("audit_roots")
    .values({ number, body, signature: Buffer.from(signature), key_id: keyId })
    .execute();
  // In parts: a statement has at most 65535 parameters.
  for (let at = 0; at < moved.length; at += 1000) {
    const rows = moved.slice(at, at + 1000).map(({ chain, hash, leaf, sequence, tenant }) => {
      return { leaf: BigInt(leaf), number, tenant, chain, sequence, hash, path: Buffer.concat(tree.path(leaf)) };
    });
    await tx.insertInto("audit_root_heads").values(rows).execute();
  }
}

export async function auditKeys(db: Kysely<Database>): Promise<AuditPublicKey[]> {
  const rows = await db
    .selectFrom("audit_keys")
    .select(["key_id", "jwk"])
    .orderBy("created_at")
    .orderBy("key_id")
    .execute();
  return rows.map(({ key_id: keyId, jwk }) => ({ keyId, jwk }));
}

/** Tell everybody the key that this replica signs with. */
export async function publishKey(db: Kysely<Database>, { jwk, keyId }: AuditPublicKey): Promise<void> {
  await db
    .insertInto("audit_keys")
    .values({ key_id: keyId, jwk })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}
