import {
  AUDIT_CHAINS,
  type AuditSigningKey,
  type ChainHead,
  decodeRootBody,
  encodeRootBody,
  headLeaf,
  NO_ENTRY,
  NO_ROOT,
  rootHash,
  type SignedRoot,
} from "@persona-mesh/audit";
import { rootsDiverged } from "./diverged.ts";
import {
  type AuditTx,
  currentHeads,
  databaseTime,
  headKey,
  headsUnder,
  insertRoot,
  type LeafHead,
  missingEntry,
  type RootHeads,
} from "./root-store.ts";

/**
 * Sign the heads of all chains, where one has moved since `newest`. Under the lock of those who sign.
 *
 * @param known - the heads under `newest`, where the caller has them; taken over and brought up to date
 * @returns the new root, not committed yet, or undefined where nothing moved; and the heads under the newest
 * @throws ServiceError AUDIT_ROOTS_DIVERGED where a chain does not continue what was signed: nothing is signed then
 */
export async function signHeads(
  tx: AuditTx,
  key: AuditSigningKey,
  newest: SignedRoot | undefined,
  known: RootHeads | undefined,
): Promise<{ readonly root: SignedRoot | undefined; readonly heads: RootHeads }> {
  const signed = known?.number === (newest?.number ?? 0n) ? known : requireSigned(newest, await headsUnder(tx, newest));
  const current = await currentHeads(tx);
  const moved = movedHeads(signed, current);
  if (moved.length === 0) return { root: undefined, heads: signed };
  await requireContinued(tx, signed, moved);
  for (const head of moved) {
    signed.tree.set(head.leaf, headLeaf(head));
    signed.heads.set(headKey(head), head);
  }
  const number = (newest?.number ?? 0n) + 1n;
  const body = encodeRootBody({
    number,
    time: (await databaseTime(tx)).toISOString(),
    merkleRoot: signed.tree.root.toString("hex"),
    leafCount: signed.tree.leafCount,
    previousRoot: newest === undefined ? NO_ROOT : rootHash(newest.body),
  });
  const root = { number, body, signature: key.sign(body), keyId: key.keyId };
  await insertRoot(tx, root, moved, signed.tree);
  return { root, heads: { ...signed, number } };
}

/** Heads that were read are those that the root is over. */
function requireSigned(root: SignedRoot | undefined, heads: RootHeads): RootHeads {
  if (root === undefined || decodeRootBody(root.body)?.merkleRoot === heads.tree.root.toString("hex")) return heads;
  throw rootsDiverged(`the heads under root ${root.number} in the database are not what was signed`, {
    root: String(root.number),
  });
}

/**
 * Heads that are not as they were signed, at their places in the tree. A tenant that is new gets a place for each of its chains,
 * also for one without entries: that it has none can then be proven.
 */
function movedHeads(signed: RootHeads, current: readonly ChainHead[]): LeafHead[] {
  const moved: LeafHead[] = [];
  let leaves = signed.tree.leafCount;
  for (const [tenant, own] of Map.groupBy(current, (head) => head.tenant)) {
    for (const chain of AUDIT_CHAINS) {
      const before = signed.heads.get(headKey({ tenant, chain }));
      const head = own.find((it) => it.chain === chain) ?? before ?? { tenant, chain, sequence: 0n, hash: NO_ENTRY };
      if (before !== undefined && before.sequence === head.sequence && before.hash === head.hash) continue;
      moved.push({ ...head, leaf: before?.leaf ?? leaves++ });
    }
  }
  const there = new Set(current.map(headKey));
  const gone = signed.heads.values().find((head) => head.sequence > 0n && !there.has(headKey(head)));
  if (gone !== undefined) throw notContinued(gone, "is gone");
  return moved;
}

/** What was signed before is still there, and the new heads are entries. */
async function requireContinued(tx: AuditTx, signed: RootHeads, moved: readonly LeafHead[]): Promise<void> {
  const entries: LeafHead[] = [];
  for (const head of moved) {
    const before = signed.heads.get(headKey(head));
    if (before !== undefined && head.sequence <= before.sequence) {
      throw notContinued(before, `is no longer below the newest, which is ${head.sequence}`);
    }
    entries.push(head, ...(before === undefined ? [] : [before]));
  }
  const missing = await missingEntry(
    tx,
    entries.filter(({ sequence }) => sequence > 0n),
  );
  if (missing !== undefined) throw notContinued(missing, "is not the entry that it was");
}

function notContinued({ chain, sequence, tenant }: ChainHead, what: string) {
  return rootsDiverged(
    `entry ${sequence} of the chain ${chain} of ${tenant}, which is signed or about to be, ${what}`,
    {
      tenant,
      chain,
      sequence: String(sequence),
    },
  );
}
