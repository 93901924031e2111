import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { AuditChain, ListAuditEntriesRequestSchema } from "@persona-mesh/protocol/registry";
import { afterAll, beforeAll, expect, test } from "vitest";
import { actAs, auditEntry } from "../testing/governed-rows.ts";
import { auditService } from "./audit-service.ts";
import { callOf, openTestAudit, type TestAudit } from "./testing/test-audit.ts";

let audit: TestAudit;
const VECTOR = "tenants/acme/vectors/cheerful";

beforeAll(async () => {
  audit = await openTestAudit();
  const entries = [
    { actor: "alice", action: "CreateVector", resource: VECTOR },
    { actor: "bob", action: "PublishVersion", resource: `${VECTOR}/versions/1` },
    { actor: "alice", action: "UpdateAlias", resource: `${VECTOR}/aliases/production` },
    { actor: "alice", action: "CreateVector", resource: `${VECTOR}-2` },
    { actor: "alice", action: "CreateVector", resource: "tenants/acme/vectors/a_b" },
    { actor: "alice", action: "CreateVector", resource: "tenants/acme/vectors/axb/versions/1" },
  ].map((payload) => auditEntry("acme", JSON.stringify(payload)));
  await actAs(audit.database.service, "acme", entries, { audited: false });
  const read = { tenant: "acme", digest: "d", callId: "c", purpose: "p" };
  await audit.registry.readAudit.record([
    { ...read, actor: "worker-0", resource: `${VECTOR}/versions/1` },
    { ...read, actor: "carol", resource: "tenants/acme/vectors/other/versions/2" },
  ]);
});

afterAll(() => audit.close());

async function list(query: Omit<MessageInitShape<typeof ListAuditEntriesRequestSchema>, "$typeName">, tenant = "acme") {
  const request = create(ListAuditEntriesRequestSchema, { parent: "tenants/acme", ...query });
  const { entries = [], nextPageToken = "" } = await auditService(audit.registry).listAuditEntries(
    request,
    callOf(tenant),
  );
  return { sequences: entries.map(({ sequence }) => Number(sequence)), entries, nextPageToken };
}

test("entries come newest first, page by page, while others are added", async () => {
  const first = await list({ pageSize: 3 });
  expect(first.sequences).toEqual([7, 6, 5]);
  await audit.write("globex");
  const second = await list({ pageSize: 3, pageToken: first.nextPageToken });
  expect(second.sequences).toEqual([4, 3, 2]);
  const third = await list({ pageSize: 3, pageToken: second.nextPageToken });
  expect(third).toMatchObject({ sequences: [1], nextPageToken: "" });
  expect(first.entries[0]).toMatchObject({
    chain: AuditChain.CHANGES,
    payload: expect.stringContaining('"actor":"alice"'),
    hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    previousHash: first.entries[1]?.hash,
  });
});

test("a resource stands for itself and what is below it, and for nothing that only begins like it", async () => {
  expect((await list({ resource: VECTOR })).sequences).toEqual([4, 3, 2]);
  expect((await list({ resource: `${VECTOR}/aliases` })).sequences).toEqual([4]);
  expect((await list({ resource: "tenants/acme/vectors/a_b" })).sequences).toEqual([6]);
  expect((await list({ resource: "tenants/acme/vectors/a%" })).sequences).toEqual([]);
});

test("actor, action and resource narrow together", async () => {
  expect((await list({ actor: "bob" })).sequences).toEqual([3]);
  expect((await list({ action: "CreateVector", actor: "alice", resource: VECTOR })).sequences).toEqual([2]);
});

test("an entry of reads is listed for each of its readers and resources", async () => {
  const chain = AuditChain.READS;
  expect((await list({ chain })).sequences).toEqual([1]);
  expect((await list({ chain, actor: "carol" })).sequences).toEqual([1]);
  expect((await list({ chain, resource: VECTOR })).sequences).toEqual([1]);
  expect((await list({ chain, actor: "carol", resource: VECTOR })).sequences).toEqual([]);
  expect((await list({ chain, actor: "dave" })).sequences).toEqual([]);
});

test("other tenants' audits are not there, and requests that make no sense are refused", async () => {
  await expect(list({}, "globex")).rejects.toMatchObject({ reason: "RESOURCE_NOT_FOUND" });
  await expect(list({ parent: "tenants/nobody" }, "nobody")).rejects.toMatchObject({ reason: "RESOURCE_NOT_FOUND" });
  expect((await list({ parent: "tenants/platform" }, "platform")).sequences).toEqual([1]);
  for (const query of [
    { parent: "acme" },
    { pageSize: 1001 },
    { pageToken: "x" },
    { chain: 7 as AuditChain },
    { resource: "x".repeat(600) },
    { actor: "\0" },
  ]) {
    await expect(list(query), JSON.stringify(query)).rejects.toMatchObject({ reason: "INVALID_ARGUMENT" });
  }
  const { nextPageToken } = await list({ pageSize: 1 });
  await expect(list({ pageSize: 1, pageToken: nextPageToken, actor: "bob" })).rejects.toMatchObject({
    reason: "INVALID_ARGUMENT",
  });
});

test("a page of large entries ends early, and nothing is left out", async () => {
  const large = JSON.stringify({ pad: "x".repeat(1_000_000) });
  await actAs(
    audit.database.service,
    "globex",
    Array.from({ length: 7 }, () => auditEntry("globex", large)),
    {
      audited: false,
    },
  );
  const pages: number[][] = [];
  let pageToken = "";
  do {
    const page = await list({ parent: "tenants/globex", pageSize: 6, pageToken }, "globex");
    pages.push(page.sequences);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  expect(pages.map(({ length }) => length)).toEqual([3, 3, 3]);
  expect(pages.flat()).toEqual([9, 8, 7, 6, 5, 4, 3, 2, 1]);
});

test("keys are published", async () => {
  const { keys = [] } = await auditService(audit.registry).listAuditKeys(undefined as never, callOf("acme"));
  expect(keys).toEqual([{ keyId: audit.roots.keyId, jwk: expect.stringContaining('"crv":"Ed25519"') }]);
});
