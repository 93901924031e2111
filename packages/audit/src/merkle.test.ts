import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { NO_ENTRY } from "./chain.ts";
import { headLeaf, MerkleTree, rootOver } from "./merkle.ts";

const sha256 = (...parts: Uint8Array[]) => createHash("sha256").update(Buffer.concat(parts)).digest();

/** The definition in RFC 6962 section 2.1, word for word, over leaves that are hashed already. */
function treeHash(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0] as Buffer;
  const split = 2 ** Math.floor(Math.log2(leaves.length - 1));
  return sha256(Buffer.of(1), treeHash(leaves.slice(0, split)), treeHash(leaves.slice(split)));
}

const leaf = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));

test("a tree that grows and changes has the root that RFC 6962 defines, at every step", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(40), leaf), { maxLength: 60 }), (steps) => {
      const tree = new MerkleTree();
      const leaves: Buffer[] = [];
      for (const [at, value] of steps) {
        const index = Math.min(at, leaves.length);
        tree.set(index, value);
        leaves[index] = value;
        expect(tree.root).toEqual(treeHash(leaves));
      }
      expect(new MerkleTree(leaves).root).toEqual(treeHash(leaves));
    }),
    { numRuns: 60 },
  );
});

test("each leaf is proven by its path, at its place alone", () => {
  fc.assert(
    fc.property(fc.uniqueArray(leaf, { minLength: 1, maxLength: 40, selector: String }), fc.nat(), (leaves, pick) => {
      const tree = new MerkleTree(leaves);
      const leafCount = leaves.length;
      const leafIndex = pick % leafCount;
      const path = tree.path(leafIndex);
      const own = leaves[leafIndex] as Buffer;
      expect(rootOver(own, { leafIndex, leafCount, path })).toEqual(tree.root);
      for (let other = 0; other < leafCount; other++) {
        if (other === leafIndex) continue;
        expect(rootOver(own, { leafIndex: other, leafCount, path })).not.toEqual(tree.root);
        expect(rootOver(leaves[other] as Buffer, { leafIndex, leafCount, path })).not.toEqual(tree.root);
      }
      expect(rootOver(own, { leafIndex, leafCount, path: [...path, own] })).toBeUndefined();
      if (path.length > 0) expect(rootOver(own, { leafIndex, leafCount, path: path.slice(1) })).toBeUndefined();
    }),
    { numRuns: 60 },
  );
});

test("positions outside the tree prove nothing", () => {
  const own = sha256();
  for (const leafIndex of [-1, 1, 2 ** 60, Number.NaN, 0.5]) {
    expect(rootOver(own, { leafIndex, leafCount: 1, path: [] })).toBeUndefined();
  }
  expect(() => new MerkleTree().path(0)).toThrow(RangeError);
  expect(() => new MerkleTree().set(1, own)).toThrow(RangeError);
});

test("a leaf depends on tenant, chain, sequence and hash, and is no inner node", () => {
  const head = { tenant: "acme", chain: "CHANGES", sequence: 1n, hash: NO_ENTRY } as const;
  const leaves = [
    head,
    { ...head, tenant: "acm" },
    { ...head, chain: "READS" as const },
    { ...head, sequence: 11n },
    { ...head, hash: "1".repeat(64) },
  ].map((it) => headLeaf(it).toString("hex"));
  expect(new Set(leaves).size).toBe(5);
  expect(leaves[0]).toBe(
    sha256(Buffer.of(0), Buffer.from(`["persona-mesh.audit.head.v1","acme","CHANGES","1","${NO_ENTRY}"]`)).toString(
      "hex",
    ),
  );
});
