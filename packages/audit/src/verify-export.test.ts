import { toJsonString } from "@bufbuild/protobuf";
import {
  AuditChain,
  type AuditEntry,
  type ExportAuditResponse,
  ExportAuditResponseSchema,
} from "@persona-mesh/protocol/registry";
import { expect, test } from "vitest";
import { entryHash } from "./chain.ts";
import { encodeExportLine, readLines } from "./export-format.ts";
import { generateAuditKey, readSigningKey } from "./keys.ts";
import { KEY, WrittenAudit } from "./testing/written-audit.ts";
import { type VerifyOptions, verifyExport } from "./verify-export.ts";

const TRUSTED: VerifyOptions = { trustedKeys: [KEY] };

/** Six changes under roots 1, 2 and 4, two reads under root 3, and one change that no root covers. */
function written(): WrittenAudit {
  const audit = new WrittenAudit();
  audit.write("platform", "CHANGES").write("acme", "CHANGES").write("acme", "CHANGES").sign();
  audit.write("acme", "CHANGES").write("globex", "CHANGES").sign();
  audit.write("acme", "READS").write("acme", "READS").sign();
  audit.write("acme", "CHANGES").write("acme", "CHANGES").write("acme", "CHANGES").sign();
  return audit.write("acme", "CHANGES");
}

const verify = (items: readonly ExportAuditResponse[], options = TRUSTED) =>
  verifyExport(items.map(encodeExportLine), options);

/** Position of an entry in an export. */
function entryAt(items: readonly ExportAuditResponse[], sequence: number, chain = AuditChain.CHANGES): number {
  return items.findIndex(
    ({ item }) => item.case === "entry" && item.value.chain === chain && item.value.sequence === BigInt(sequence),
  );
}

function entryOf(items: readonly ExportAuditResponse[], at: number): AuditEntry {
  return items[at]?.item.value as AuditEntry;
}

test("an untouched export is good, and says what nothing covers yet", async () => {
  const audit = written();
  const report = await verify(audit.export("acme"), { ...TRUSTED, trustedRoots: audit.outside(), tenant: "acme" });
  expect(report).toMatchObject({
    ok: true,
    tenant: "acme",
    chains: {
      CHANGES: { entries: 7n, proven: 6n, unsigned: 1n },
      READS: { entries: 2n, proven: 2n, unsigned: 0n },
    },
    newestRoot: { number: 4n },
    firstBad: undefined,
    problems: [],
    warnings: ["UNSIGNED_TAIL"],
  });
});

test("keys out of the export prove nothing: a warning says so", async () => {
  const report = await verify(written().sign().export("acme"), {});
  expect(report).toMatchObject({ ok: true, warnings: ["KEYS_NOT_TRUSTED", "NO_OUTSIDE_ROOTS"] });
});

test("roots that are kept outside vouch for what they equal", async () => {
  const audit = written().sign();
  const report = await verify(audit.export("acme"), { trustedRoots: audit.outside() });
  expect(report).toMatchObject({ ok: true, warnings: [] });
});

test("an export that somebody signed with a key of their own is refused under trusted keys", async () => {
  const forged = new WrittenAudit(["acme"], readSigningKey(generateAuditKey()));
  forged.write("acme", "CHANGES").sign();
  expect((await verify(forged.export("acme"), {})).ok).toBe(true);
  const report = await verify(forged.export("acme"));
  expect(report.problems.map(({ reason }) => reason)).toContain("ROOT_UNTRUSTED");
  expect(report.chains.CHANGES.proven).toBe(0n);
});

test("a changed payload is named", async () => {
  const items = written().export("acme");
  entryOf(items, entryAt(items, 4)).payload = '{"n":"other"}';
  expect((await verify(items)).firstBad).toMatchObject({ chain: "CHANGES", sequence: 4n, reason: "ENTRY_CHANGED" });
});

test("a changed payload with its hash made to fit is named, by the root after it", async () => {
  const items = written().export("acme");
  const entry = entryOf(items, entryAt(items, 4));
  entry.payload = '{"n":"other"}';
  entry.hash = entryHash(4n, entry.previousHash, entry.payload);
  expect((await verify(items)).firstBad).toMatchObject({ chain: "CHANGES", sequence: 4n, reason: "ENTRY_CHANGED" });
});

test("an entry under no root that does not continue the one before it is named", async () => {
  const items = written().export("acme");
  const entry = entryOf(items, entryAt(items, 7));
  entry.previousHash = "1".repeat(64);
  entry.hash = entryHash(7n, entry.previousHash, entry.payload);
  expect((await verify(items)).firstBad).toMatchObject({ sequence: 7n, reason: "ENTRY_UNLINKED" });
});

test("a chain that was rewritten from an entry on is named from the last root that still holds", async () => {
  const audit = written().rewrite("acme", "CHANGES", 3, '{"n":"other"}');
  const report = await verify(audit.export("acme"));
  expect(report.firstBad).toMatchObject({ sequence: 3n, reason: "ENTRY_CHANGED" });
  expect(report.chains.CHANGES.proven).toBe(2n);
});

test("a chain that was rewritten and signed again is betrayed by the roots before", async () => {
  const audit = written().rewrite("acme", "CHANGES", 3, '{"n":"other"}').sign();
  expect((await verify(audit.export("acme"))).firstBad).toMatchObject({ sequence: 3n, reason: "ENTRY_CHANGED" });
});

test("reordered entries are named at the first wrong place", async () => {
  const items = written().export("acme");
  const at = entryAt(items, 4);
  [items[at], items[at + 1]] = [items[at + 1] as ExportAuditResponse, items[at] as ExportAuditResponse];
  expect((await verify(items)).firstBad).toMatchObject({ sequence: 4n, reason: "ENTRY_MISSING" });
});

test("a deletion in the middle is named", async () => {
  const items = written().export("acme");
  items.splice(entryAt(items, 3), 1);
  expect((await verify(items)).firstBad).toMatchObject({ sequence: 3n, reason: "ENTRY_MISSING" });
});

test("a deletion in the middle with later entries numbered and linked again is named", async () => {
  const audit = written()
    .cut("acme", "CHANGES", 3)
    .write("acme", "CHANGES")
    .write("acme", "CHANGES")
    .write("acme", "CHANGES");
  expect((await verify(audit.export("acme"))).firstBad).toMatchObject({ sequence: 4n, reason: "ENTRY_CHANGED" });
});

test("a deletion of the newest entries is named by the root that covers them", async () => {
  const audit = written().cut("acme", "CHANGES", 4);
  expect((await verify(audit.export("acme"))).firstBad).toMatchObject({ sequence: 5n, reason: "ENTRY_MISSING" });
  // Signing again what is left does not help.
  expect((await verify(audit.sign().export("acme"))).firstBad).toMatchObject({ sequence: 5n, reason: "ENTRY_MISSING" });
});

test("a whole chain that is deleted is named", async () => {
  const audit = written().cut("acme", "READS", 0);
  expect((await verify(audit.export("acme"))).firstBad).toMatchObject({ chain: "READS", sequence: 1n });
});

test("entries that are deleted with all their roots show against the roots kept outside, and only against them", async () => {
  const audit = written();
  const trustedRoots = audit.outside();
  const items = audit.restore(2).export("acme");
  expect(await verify(items)).toMatchObject({ ok: true, warnings: ["NO_OUTSIDE_ROOTS"] });
  const report = await verify(items, { ...TRUSTED, trustedRoots });
  expect(report.problems).toMatchObject([{ reason: "ROOT_MISSING", root: 4n }]);
});

test("an export older than the newest root outside is good for its time", async () => {
  const audit = written();
  const items = audit.export("acme", new Date(Date.UTC(2026, 0, 1, 0, 0, 4)));
  audit.write("acme", "CHANGES").sign();
  const report = await verify(items, { ...TRUSTED, trustedRoots: audit.outside() });
  expect(report).toMatchObject({ ok: true, warnings: ["EXPORT_OLDER", "UNSIGNED_TAIL"] });
});

test("a repeated entry is named", async () => {
  const items = written().export("acme");
  const at = entryAt(items, 3);
  items.splice(at, 0, items[at] as ExportAuditResponse);
  expect((await verify(items)).firstBad).toMatchObject({ sequence: 4n, reason: "ENTRY_REPEATED" });
});

test("another tenant's export is not taken for the one asked for, whatever its header says", async () => {
  const items = written().sign().export("globex");
  expect((await verify(items, { ...TRUSTED, tenant: "acme" })).problems).toMatchObject([{ reason: "TENANT" }]);
  const header = items[0]?.item.value as { tenant: string };
  header.tenant = "acme";
  const report = await verify(items, { ...TRUSTED, tenant: "acme" });
  expect(report.problems.map(({ reason }) => reason)).toContain("INCLUSION_INVALID");
  expect(report.chains.CHANGES.proven).toBe(0n);
});

test("entries of another tenant are not taken for this one's", async () => {
  const audit = written().write("globex", "CHANGES").sign();
  const items = audit.export("acme").filter(({ item }) => item.case !== "entry");
  items.push(...audit.export("globex").filter(({ item }) => item.case === "entry"));
  expect((await verify(items)).firstBad).toMatchObject({ chain: "CHANGES", sequence: 1n });
});

test("a chain is not taken for the other", async () => {
  const items = written().sign().export("acme");
  for (const { item } of items) {
    if (item.case === "inclusion") item.value.chain = (3 - item.value.chain) as AuditChain;
  }
  const report = await verify(items);
  expect(report.problems.map(({ reason }) => reason)).toContain("INCLUSION_INVALID");
});

test("two roots with one number are a fork: in the export, outside, and between them", async () => {
  const audit = written();
  const other = written();
  const items = audit.export("acme");
  const at = items.findIndex(({ item }) => item.case === "root");
  items.splice(at + 2, 0, other.export("acme")[at] as ExportAuditResponse);
  expect((await verify(items)).problems).toContainEqual(expect.objectContaining({ reason: "ROOT_FORKED", root: 1n }));
  const outside = { ...TRUSTED, trustedRoots: other.outside() };
  expect((await verify(audit.export("acme"), outside)).problems).toMatchObject(
    [1n, 2n, 3n, 4n].map((root) => ({ reason: "ROOT_FORKED", root })),
  );
  const both = { ...TRUSTED, trustedRoots: [...audit.outside(), ...other.outside().slice(-1)] };
  expect((await verify(audit.export("acme"), both)).problems).toContainEqual(
    expect.objectContaining({ reason: "ROOT_FORKED", root: 4n }),
  );
});

test("a root that names another predecessor is refused, in the export and outside", async () => {
  const audit = written();
  const other = written();
  const items = audit.export("acme");
  const second = items.findIndex(({ item }) => item.case === "root" && item.value.number === 2n);
  items[second] = other.export("acme")[second] as ExportAuditResponse;
  expect((await verify(items)).problems).toContainEqual(expect.objectContaining({ reason: "ROOT_UNLINKED", root: 2n }));
  const [first = ""] = other.outside();
  const report = await verify(audit.export("acme"), { ...TRUSTED, trustedRoots: [first, ...audit.outside().slice(1)] });
  expect(report.problems).toContainEqual(expect.objectContaining({ reason: "ROOT_UNLINKED", root: 2n }));
});

test("an export without roots or without a proof under the newest is not good", async () => {
  const items = written().export("acme");
  const bare = items.filter(({ item }) => item.case !== "root" && item.case !== "inclusion");
  expect((await verify(bare)).problems).toMatchObject([{ reason: "ROOT_MISSING" }]);
  const last = items.findLastIndex(({ item }) => item.case === "inclusion");
  expect((await verify(items.toSpliced(last, 1))).problems).toMatchObject([
    { reason: "INCLUSION_MISSING", chain: "READS" },
  ]);
});

test("lines that are none, unknown fields and strange orders are reported with their line", async () => {
  const items = written().export("acme");
  const lines = items.map((item) => toJsonString(ExportAuditResponseSchema, item));
  const problemsOf = async (changed: string[]) => (await verifyExport(changed, TRUSTED)).problems;
  expect(await problemsOf(lines.toSpliced(1, 0, "garbage"))).toMatchObject([{ reason: "FORMAT", line: 2 }]);
  expect(await problemsOf(lines.toSpliced(1, 0, '{"entry":{},"x":1}'))).toMatchObject([{ reason: "FORMAT", line: 2 }]);
  expect(await problemsOf(lines.toSpliced(1, 0, lines[0] as string))).toMatchObject([{ reason: "FORMAT", line: 2 }]);
  expect(await problemsOf(lines.slice(1))).toContainEqual(expect.objectContaining({ reason: "FORMAT" }));
  expect(await problemsOf([])).toHaveLength(2);
  const timeless = JSON.stringify({ header: { formatVersion: 1, tenant: "acme" } });
  expect(await problemsOf([timeless, ...lines.slice(1)])).toMatchObject([{ reason: "FORMAT", line: 1 }]);
  const newer = JSON.stringify({ header: { ...JSON.parse(lines[0] as string).header, formatVersion: 2 } });
  expect(await problemsOf([newer, ...lines.slice(1)])).toMatchObject([{ reason: "FORMAT", line: 1 }]);
});

test("lines come whole out of pieces that cut characters", async () => {
  const bytes = Buffer.from('{"ü":1}\n\n{"日本":2}');
  const pieces = Array.from(bytes, (byte) => Uint8Array.of(byte));
  expect(await Array.fromAsync(readLines(pieces))).toEqual(['{"ü":1}', "", '{"日本":2}']);
  const endless = (function* () {
    for (;;) yield Buffer.alloc(1024 * 1024, 0x61);
  })();
  await expect(Array.fromAsync(readLines(endless))).rejects.toThrow("line 1 is longer");
});
