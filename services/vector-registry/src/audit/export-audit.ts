import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { AUDIT_CHAINS, chainOf, decodeRootBody, EXPORT_FORMAT_VERSION, type SignedRoot } from "@persona-mesh/audit";
import type {
  AuditInclusionSchema,
  AuditRootSchema,
  ExportAuditRequest,
  ExportAuditResponseSchema,
} from "@persona-mesh/protocol/registry";
import type { CallContext } from "@persona-mesh/service";
import { sql } from "kysely";
import type { AuditChainName } from "../database/schema.ts";
import type { Registry } from "../registry.ts";
import { TENANT_NAME } from "../resource-name.ts";
import { requireKnownTenant } from "./known-tenant.ts";
import { entryMessage } from "./list-entries.ts";
import {
  type AuditTx,
  auditKeys,
  databaseTime,
  headKey,
  headsUnder,
  lockRootsShared,
  newestRoot,
} from "./root-store.ts";

type Response = MessageInitShape<typeof ExportAuditResponseSchema>;
type Inclusion = MessageInitShape<typeof AuditInclusionSchema>;

/** Entries in one read, and bytes of their payloads: what an export holds at a time. */
const BATCH_ENTRIES = 500;
const BATCH_BYTES = 2 * 1024 * 1024;
/** Proofs in one read; each comes with its root. */
const BATCH_PROOFS = 100;

/**
 * A tenant's chains with every root under which they moved. Read in short transactions, as fast as the client takes them:
 * entries are only ever added, so what is read later continues what was read before.
 */
export async function* exportAudit(
  registry: Registry,
  request: ExportAuditRequest,
  context: CallContext,
): AsyncGenerator<Response> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  const { auditDatabase, auditRoots, transactor, log } = registry;
  await transactor.read(context, tenant, request.parent, (db) => requireKnownTenant(db, tenant));
  // So that nothing but what is written meanwhile stands unsigned at the end of it.
  await auditRoots.sign().catch((error) => log.warn({ err: error }, "an audit is exported without a fresh root"));
  const newest = await newestOf(registry, tenant);
  yield {
    item: {
      case: "header",
      value: { formatVersion: EXPORT_FORMAT_VERSION, tenant, createTime: timestampFromDate(newest.time) },
    },
  };
  for (const key of await auditKeys(auditDatabase)) yield { item: { case: "key", value: key } };
  if (newest.root !== undefined) {
    yield* rootsBefore(auditDatabase, tenant, newest.root.number);
    yield { item: { case: "root", value: rootMessage(newest.root) } };
    for (const inclusion of newest.inclusions) yield { item: { case: "inclusion", value: inclusion } };
  }
  const heads = await transactor.read(context, tenant, request.parent, (db) =>
    db.selectFrom("audit_heads").select(["chain", "sequence"]).where("tenant", "=", tenant).execute(),
  );
  for (const chain of AUDIT_CHAINS) {
    const end = heads.find((head) => head.chain === chain)?.sequence ?? 0n;
    // To the end as it was now: a client that reads more slowly than others write is done at some time.
    yield* entriesOf(registry, request.parent, { tenant, chain, end }, context);
  }
}

/** The newest root, with the proofs that it covers both of the tenant's chains, and a time before which there is no newer one. */
function newestOf({ auditDatabase }: Registry, tenant: string) {
  return auditDatabase.transaction().execute(async (tx) => {
    await lockRootsShared(tx);
    const time = await databaseTime(tx);
    const root = await newestRoot(tx);
    const { heads, tree } = await headsUnder(tx, root);
    const inclusions: Inclusion[] = [];
    for (const chain of AUDIT_CHAINS) {
      const head = heads.get(headKey({ tenant, chain }));
      if (root === undefined || head === undefined) continue;
      inclusions.push(inclusionMessage(root.number, tree.leafCount, head, Buffer.concat(tree.path(head.leaf))));
    }
    return { time, root, inclusions };
  });
}

/** Roots under which a chain of the tenant moved, up to the newest, with their proofs. */
async function* rootsBefore(db: AuditTx, tenant: string, newest: bigint): AsyncGenerator<Response> {
  let written = 0n;
  let after = { number: 0n, chain: "" };
  while (true) {
    const rows = await db
      .selectFrom("audit_root_heads as head")
      .innerJoin("audit_roots as root", "root.number", "head.number")
      .select(["head.chain", "head.hash", "head.leaf", "head.path", "head.sequence"])
      .select(["root.number", "root.body", "root.signature", "root.key_id as keyId"])
      .where("head.tenant", "=", tenant)
      .where("head.number", "<", newest)
      .where((it) =>
        it(it.refTuple("head.number", "head.chain"), ">", it.tuple(after.number, after.chain as AuditChainName)),
      )
      .orderBy("head.number")
      .orderBy("head.chain")
      .limit(BATCH_PROOFS)
      .execute();
    for (const row of rows) {
      if (row.number !== written) yield { item: { case: "root", value: rootMessage(row) } };
      written = row.number;
      const { leafCount } = requireBody(row);
      yield { item: { case: "inclusion", value: inclusionMessage(row.number, leafCount, row, row.path) } };
    }
    const last = rows.at(-1);
    if (last === undefined) return;
    after = { number: last.number, chain: last.chain };
  }
}

async function* entriesOf(
  { transactor }: Registry,
  resource: string,
  { chain, end, tenant }: { readonly chain: AuditChainName; readonly end: bigint; readonly tenant: string },
  context: CallContext,
): AsyncGenerator<Response> {
  let after = 0n;
  while (true) {
    const rows = await transactor.read(context, tenant, resource, (db) =>
      db
        .selectFrom((from) =>
          from
            .selectFrom((inner) =>
              inner
                .selectFrom("audit")
                .select(["chain", "sequence", "payload", "previous_hash", "hash"])
                .where("tenant", "=", tenant)
                .where("chain", "=", chain)
                .where("sequence", ">", after)
                .where("sequence", "<=", end)
                .orderBy("sequence")
                .limit(BATCH_ENTRIES)
                .as("next"),
            )
            .selectAll()
            .select(
              sql<bigint>`sum(octet_length(payload)) OVER (ORDER BY sequence) - octet_length(payload)`.as("before"),
            )
            .as("measured"),
        )
        .selectAll()
        // The first one goes whatever its size is.
        .where("before", "<", BigInt(BATCH_BYTES))
        .orderBy("sequence")
        .execute(),
    );
    for (const row of rows) yield { item: { case: "entry", value: entryMessage(row) } };
    const last = rows.at(-1);
    if (last === undefined) return;
    after = last.sequence;
  }
}

function rootMessage(root: SignedRoot): MessageInitShape<typeof AuditRootSchema> {
  const { body, keyId, number, signature } = root;
  return { number, createTime: timestampFromDate(new Date(requireBody(root).time)), body, signature, keyId };
}

function requireBody({ body, number }: Pick<SignedRoot, "body" | "number">) {
  const content = decodeRootBody(body);
  // Told as it is: what was changed in the database is for the verifier to find.
  return content ?? { number, time: new Date(0).toISOString(), leafCount: 0 };
}

function inclusionMessage(
  rootNumber: bigint,
  leafCount: number,
  head: {
    readonly chain: AuditChainName;
    readonly sequence: bigint;
    readonly hash: string;
    readonly leaf: number | bigint;
  },
  path: Uint8Array,
): Inclusion {
  const siblings = Array.from({ length: path.length / 32 }, (_, at) =>
    Buffer.from(path.subarray(at * 32, at * 32 + 32)).toString("hex"),
  );
  const { chain, hash, leaf, sequence } = head;
  return {
    rootNumber,
    chain: chainOf(chain),
    sequence,
    hash,
    leafIndex: BigInt(leaf),
    leafCount: BigInt(leafCount),
    path: siblings,
  };
}
