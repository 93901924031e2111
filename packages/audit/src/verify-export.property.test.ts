import { AuditChain, type ExportAuditResponse } from "@persona-mesh/protocol/registry";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AUDIT_CHAINS, type AuditChainName } from "./chain.ts";
import { encodeExportLine } from "./export-format.ts";
import { KEY, WrittenAudit } from "./testing/written-audit.ts";
import { verifyExport } from "./verify-export.ts";

const verify = (items: readonly ExportAuditResponse[]) =>
  verifyExport(items.map(encodeExportLine), { trustedKeys: [KEY], tenant: "acme" });

/** Some writing and signing, then a root over all of it and perhaps entries that none covers. */
const audits = fc
  .record({
    steps: fc.array(fc.constantFrom("CHANGES" as const, "READS" as const, "other" as const, "sign" as const), {
      maxLength: 25,
    }),
    tail: fc.nat(3),
  })
  .map(({ steps, tail }) => {
    const audit = new WrittenAudit(["acme", "globex", "initech"]).write("acme", "CHANGES", '{"n":-1}');
    for (const [n, step] of steps.entries()) {
      if (step === "sign") audit.sign();
      else if (step === "other") audit.write("globex", "CHANGES", `{"n":${n}}`);
      else audit.write("acme", step, `{"n":${n}}`);
    }
    audit.sign();
    for (let n = 0; n < tail; n++) audit.write("acme", "CHANGES", `{"tail":${n}}`);
    return audit;
  });

const otherHash = (hash: string) => (hash.startsWith("0") ? "1" : "0") + hash.slice(1);

type Item = ExportAuditResponse["item"];
type Kind = NonNullable<Item["case"]>;

/** A change of items of one kind. */
function of<Case extends Kind>(kind: Case, change: (value: Extract<Item, { case: Case }>["value"]) => void) {
  return { kind, change: change as (value: Item["value"]) => void };
}

/** Every field of what an export has, changed. The header's time and format are signed by nobody; the format has its own test. */
const CHANGES: Readonly<Record<string, ReturnType<typeof of>>> = {
  payload: of("entry", (it) => {
    it.payload += " ";
  }),
  "entry sequence": of("entry", (it) => {
    it.sequence++;
  }),
  "previous hash": of("entry", (it) => {
    it.previousHash = otherHash(it.previousHash);
  }),
  "entry hash": of("entry", (it) => {
    it.hash = otherHash(it.hash);
  }),
  "root number": of("root", (it) => {
    it.number++;
  }),
  "root time": of("root", (it) => {
    delete it.createTime;
  }),
  "root body": of("root", (it) => {
    it.body = it.body.replace('"merkleRoot":"', '"merkleRoot":"f');
  }),
  signature: of("root", (it) => {
    it.signature = it.signature.map((byte) => byte ^ 1);
  }),
  "signing key": of("root", (it) => {
    it.keyId += "x";
  }),
  "proof's root": of("inclusion", (it) => {
    it.rootNumber++;
  }),
  "proof's sequence": of("inclusion", (it) => {
    it.sequence++;
  }),
  "proof's hash": of("inclusion", (it) => {
    it.hash = otherHash(it.hash);
  }),
  "proof's place": of("inclusion", (it) => {
    it.leafIndex++;
  }),
  "proof's size": of("inclusion", (it) => {
    it.leafCount++;
  }),
  "proof's path": of("inclusion", (it) => {
    it.path.push(it.hash);
  }),
  "key's id": of("key", (it) => {
    it.keyId += "x";
  }),
  tenant: of("header", (it) => {
    it.tenant += "x";
  }),
};

test("any one field that is changed is detected, and a bad entry is named", async () => {
  const names = Object.keys(CHANGES);
  await fc.assert(
    fc.asyncProperty(audits, fc.constantFrom(...names), fc.nat(), async (audit, name, pick) => {
      const items = audit.export("acme");
      expect(await verify(items)).toMatchObject({ ok: true, problems: [] });
      const { kind, change } = CHANGES[name] as ReturnType<typeof of>;
      const places = [...items.keys()].filter((at) => items[at]?.item.case === kind);
      const at = places[pick % places.length] as number;
      const item = items[at]?.item as Item;
      const place = placeOf(items, at);
      change(item.value);
      const report = await verify(items);
      expect(report.ok).toBe(false);
      if (item.case === "entry") expect(report.firstBad).toMatchObject(place);
    }),
    { numRuns: 400 },
  );
});

test("any entry that is dropped, repeated or swapped is named, as far as roots reach", async () => {
  const kinds = fc.constantFrom("dropped" as const, "repeated" as const, "swapped" as const);
  await fc.assert(
    fc.asyncProperty(audits, kinds, fc.nat(), async (audit, kind, pick) => {
      const items = audit.export("acme");
      const entries = [...items.keys()].filter((at) => items[at]?.item.case === "entry");
      const at = entries[pick % entries.length] as number;
      const { chain, sequence } = placeOf(items, at);
      const next = items[at + 1];
      const isLast = next === undefined || placeOf(items, at + 1).chain !== chain;
      if (kind === "dropped") {
        // The newest of what no root covers can go without a trace: the window that docs/audit.md tells of.
        const { chains } = await verify(items);
        fc.pre(sequence <= chains[chain].proven || !isLast);
        items.splice(at, 1);
        expect((await verify(items)).firstBad).toMatchObject({ chain, sequence });
      } else if (kind === "repeated") {
        items.splice(at, 0, items[at] as ExportAuditResponse);
        expect((await verify(items)).firstBad).toMatchObject({ chain, sequence: sequence + 1n });
      } else {
        fc.pre(!isLast);
        items.splice(at, 2, next as ExportAuditResponse, items[at] as ExportAuditResponse);
        expect((await verify(items)).firstBad).toMatchObject({ chain, sequence });
      }
    }),
    { numRuns: 200 },
  );
});

test("an entry that is rewritten with everything after it is named no later than where it stands", async () => {
  await fc.assert(
    fc.asyncProperty(audits, fc.nat(), fc.boolean(), async (audit, pick, signAgain) => {
      const before = await verify(audit.export("acme"));
      const proven = before.chains.CHANGES.proven;
      const sequence = (BigInt(pick) % proven) + 1n;
      audit.rewrite("acme", "CHANGES", Number(sequence), '{"n":"planted"}');
      if (signAgain) audit.sign();
      const { chains, firstBad } = await verify(audit.export("acme"));
      expect(firstBad?.chain).toBe("CHANGES");
      expect(firstBad?.sequence).toBeLessThanOrEqual(sequence);
      expect(chains.CHANGES.proven).toBeLessThan(sequence);
    }),
    { numRuns: 150 },
  );
});

function placeOf(items: readonly ExportAuditResponse[], at: number): { chain: AuditChainName; sequence: bigint } {
  const item = items[at]?.item;
  if (item?.case !== "entry") return { chain: AUDIT_CHAINS[0], sequence: 0n };
  return { chain: item.value.chain === AuditChain.CHANGES ? "CHANGES" : "READS", sequence: item.value.sequence };
}
