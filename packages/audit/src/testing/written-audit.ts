import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { type ExportAuditResponse, ExportAuditResponseSchema } from "@persona-mesh/protocol/registry";
import { AUDIT_CHAINS, type AuditChainName, type ChainHead, entryHash, NO_ENTRY } from "../chain.ts";
import { chainOf, EXPORT_FORMAT_VERSION } from "../export-format.ts";
import { type AuditSigningKey, generateAuditKey, readSigningKey } from "../keys.ts";
import { headLeaf, MerkleTree } from "../merkle.ts";
import { encodeRootBody, NO_ROOT, rootHash, type SignedRoot } from "../root.ts";
import { encodeRootLine } from "../root-file.ts";

type Item = ExportAuditResponse["item"];

/** The key of a registry. */
export const KEY: AuditSigningKey = readSigningKey(generateAuditKey());

/** A registry's audit in memory: what the database and the signer do, for tests of what is verified. */
export class WrittenAudit {
  readonly tenants: readonly string[];
  readonly #key: AuditSigningKey;
  readonly #entries = new Map<string, { payload: string; previousHash: string; hash: string }[]>();
  readonly #roots: { root: SignedRoot; time: Date; heads: ChainHead[] }[] = [];

  constructor(tenants: readonly string[] = ["acme", "globex", "platform"], key = KEY) {
    this.tenants = tenants;
    this.#key = key;
  }

  write(tenant: string, chain: AuditChainName, payload = `{"n":${Math.random()}}`): this {
    const entries = this.#chain(tenant, chain);
    const previousHash = entries.at(-1)?.hash ?? NO_ENTRY;
    const hash = entryHash(BigInt(entries.length + 1), previousHash, payload);
    entries.push({ payload, previousHash, hash });
    return this;
  }

  /** Drop the newest entries, as whoever owns the database can. */
  cut(tenant: string, chain: AuditChainName, length: number): this {
    this.#chain(tenant, chain).length = length;
    return this;
  }

  /** Change an entry, and all links after it. */
  rewrite(tenant: string, chain: AuditChainName, sequence: number, payload: string): this {
    const entries = this.#chain(tenant, chain);
    const later = entries.splice(sequence - 1).slice(1);
    this.write(tenant, chain, payload);
    for (const entry of later) this.write(tenant, chain, entry.payload);
    return this;
  }

  sign(): this {
    const number = BigInt(this.#roots.length + 1);
    const time = new Date(Date.UTC(2026, 0, 1, 0, 0, Number(number)));
    const heads = this.tenants.flatMap((tenant) => AUDIT_CHAINS.map((chain) => this.#head(tenant, chain)));
    const tree = new MerkleTree(heads.map(headLeaf));
    const last = this.#roots.at(-1)?.root;
    const body = encodeRootBody({
      number,
      time: time.toISOString(),
      merkleRoot: tree.root.toString("hex"),
      leafCount: tree.leafCount,
      previousRoot: last === undefined ? NO_ROOT : rootHash(last.body),
    });
    this.#roots.push({ root: { number, body, signature: this.#key.sign(body), keyId: this.#key.keyId }, time, heads });
    return this;
  }

  /** Put everything back to an earlier root, as from a backup. */
  restore(number: number): this {
    const heads = this.#roots[number - 1]?.heads ?? [];
    for (const { tenant, chain, sequence } of heads) this.cut(tenant, chain, Number(sequence));
    this.#roots.length = number;
    return this;
  }

  /** The file that is kept outside. */
  outside(): string[] {
    return this.#roots.map(({ root }) => encodeRootLine(root));
  }

  /** Items of an export, of the roots under which the tenant's chains moved and the newest. */
  export(tenant: string, createTime = new Date(Date.UTC(2026, 0, 2))): ExportAuditResponse[] {
    const { keyId, jwk } = this.#key;
    const items: Item[] = [
      {
        case: "header",
        value: message("header", {
          formatVersion: EXPORT_FORMAT_VERSION,
          tenant,
          createTime: timestampFromDate(createTime),
        }),
      },
      { case: "key", value: message("key", { keyId, jwk }) },
    ];
    for (const [at, { heads, root, time }] of this.#roots.entries()) {
      const before = this.#roots[at - 1]?.heads;
      const isNewest = at === this.#roots.length - 1;
      const moved = [...heads.entries()].filter(
        ([leaf, head]) => head.tenant === tenant && (isNewest || head.sequence !== (before?.[leaf]?.sequence ?? 0n)),
      );
      if (moved.length === 0) continue;
      items.push({ case: "root", value: message("root", { ...root, createTime: timestampFromDate(time) }) });
      const tree = new MerkleTree(heads.map(headLeaf));
      for (const [leaf, { chain, hash, sequence }] of moved) {
        items.push({
          case: "inclusion",
          value: message("inclusion", {
            rootNumber: root.number,
            chain: chainOf(chain),
            sequence,
            hash,
            leafIndex: BigInt(leaf),
            leafCount: BigInt(tree.leafCount),
            path: tree.path(leaf).map((sibling) => sibling.toString("hex")),
          }),
        });
      }
    }
    for (const chain of AUDIT_CHAINS) {
      for (const [at, entry] of this.#chain(tenant, chain).entries()) {
        items.push({
          case: "entry",
          value: message("entry", { chain: chainOf(chain), sequence: BigInt(at + 1), ...entry }),
        });
      }
    }
    return items.map((item) => create(ExportAuditResponseSchema, { item }));
  }

  #chain(tenant: string, chain: AuditChainName) {
    const key = `${tenant}/${chain}`;
    const entries = this.#entries.get(key) ?? [];
    this.#entries.set(key, entries);
    return entries;
  }

  #head(tenant: string, chain: AuditChainName): ChainHead {
    const entries = this.#chain(tenant, chain);
    return { tenant, chain, sequence: BigInt(entries.length), hash: entries.at(-1)?.hash ?? NO_ENTRY };
  }
}

type Value<Case extends Item["case"]> = Extract<Item, { case: Case }>["value"];

/** The message of one kind of item, with its generated type. */
function message<Case extends NonNullable<Item["case"]>>(
  kind: Case,
  fields: Omit<NonNullable<Value<Case>>, "$typeName" | "$unknown">,
): NonNullable<Value<Case>> {
  const made = create(ExportAuditResponseSchema, { item: { case: kind, value: fields } as never });
  return made.item.value as NonNullable<Value<Case>>;
}
