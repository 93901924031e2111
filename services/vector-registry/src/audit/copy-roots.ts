import {
  type AuditPublicKey,
  decodeRootBody,
  NO_ROOT,
  RootVerifier,
  rootHash,
  type SignedRoot,
} from "@persona-mesh/audit";
import { rootsDiverged } from "./diverged.ts";
import type { OutsideRoots } from "./outside-roots.ts";
import { type AuditTx, auditKeys, newestRoot, rootNumbered, rootsAfter } from "./root-store.ts";

/** Roots that are read and written at once. */
const BATCH = 1000;

/**
 * Bring the file up to date with the table, under the lock of those who sign. Everything that is added continues what is there and
 * is signed.
 *
 * @returns the newest root, and how many were added
 * @throws ServiceError AUDIT_ROOTS_DIVERGED where the table lacks a root that the file has, or has another under its number
 */
export async function copyRoots(
  tx: AuditTx,
  outside: OutsideRoots,
): Promise<{ readonly newest: SignedRoot | undefined; readonly copied: number }> {
  let last = await outside.newest();
  await requireKept(tx, outside.path, last);
  let copied = 0;
  let verifier: RootVerifier | undefined;
  while (true) {
    const roots = await rootsAfter(tx, last?.number ?? 0n, BATCH);
    if (roots.length === 0) return { newest: last, copied };
    verifier ??= verifierOf(await auditKeys(tx));
    for (const root of roots) {
      requireNext(root, last, verifier);
      last = root;
    }
    await outside.append(roots);
    copied += roots.length;
  }
}

/** The root that the file ends with is in the table: with the hashes in the bodies, so are all before it, or they show as changed. */
async function requireKept(tx: AuditTx, path: string, last: SignedRoot | undefined): Promise<void> {
  if (last === undefined) return;
  const inTable = await rootNumbered(tx, last.number);
  if (inTable?.body === last.body) return;
  const newest = await newestRoot(tx);
  const numbers = { outside: String(last.number), database: String(newest?.number ?? 0n) };
  throw rootsDiverged(
    inTable === undefined
      ? `root ${numbers.outside} in ${path} is missing in the database, whose newest is ${numbers.database}: it was put back to an earlier state, or entries were deleted`
      : `root ${numbers.outside} in ${path} is another one in the database: its history was replaced`,
    numbers,
  );
}

function requireNext(root: SignedRoot, last: SignedRoot | undefined, verifier: RootVerifier): void {
  const body = decodeRootBody(root.body);
  const number = (last?.number ?? 0n) + 1n;
  const previousRoot = last === undefined ? NO_ROOT : rootHash(last.body);
  if (root.number !== number || body?.number !== number || body.previousRoot !== previousRoot) {
    throw rootsDiverged(`root ${number} in the database does not continue the one before it`, { root: String(number) });
  }
  if (!verifier.verify(root)) {
    throw rootsDiverged(`root ${number} in the database is not signed by a published key`, { root: String(number) });
  }
}

function verifierOf(keys: readonly AuditPublicKey[]): RootVerifier {
  const verifier = new RootVerifier();
  for (const key of keys) verifier.add(key);
  return verifier;
}
