import { createReadStream } from "node:fs";
import { join } from "node:path";
import { encodeExportLine, readLines, verifyExport } from "@persona-mesh/audit";
import type { InferenceClient } from "@persona-mesh/client";
import {
  ApprovalService,
  AuditService,
  PersonaService,
  TenantService,
  VectorService,
} from "@persona-mesh/protocol/registry";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { type GovernedMesh, openGovernedMesh } from "../support/governed-mesh.ts";
import { type GovernedTenant, type GovernedVersion, inline } from "../support/governed-tenant.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { RunningStream, withinOneStream } from "../support/running-stream.ts";
import { until } from "../support/until.ts";

let mesh: GovernedMesh;
let acme: GovernedTenant;
/** An operator of acme. */
let client: InferenceClient;
/** The same tenant with the role service, which may bring vectors along. */
let service: InferenceClient;

beforeAll(async () => {
  // Signed often: the audit is verified as soon as it is written.
  mesh = await openGovernedMesh({ registry: { auditRootSeconds: 0.05 } });
  acme = await mesh.tenant("acme");
  client = await mesh.client({});
  service = await mesh.client({ roles: ["service"] });
});

afterAll(() => mesh.close());

/** A reply of the persona of that name, to the bit. */
const replyOf = async (persona: string) =>
  fingerprint(await client.generateText(ask("hello", { as: acme.persona(persona) })));

/** A reply of whoever is active; unsteered where nobody is. */
async function activeReply() {
  const { persona: _, ...request } = ask("hello");
  const reply = await client.generateText(request);
  return { ...fingerprint(reply), wears: reply.started.persona?.name };
}

/** What a version is to do, told by vectors in the request. */
const expectedOf = async (version: GovernedVersion, gain?: number) =>
  fingerprint(
    await service.generateText(
      ask("hello", { persona: { selector: inline(version), ...(gain === undefined ? {} : { gain }) } }),
    ),
  );

const reasonOf = async (call: Promise<unknown>) => (await failureOf(call)).reason;

describe("approval", () => {
  let version: GovernedVersion;

  test("before it nothing of a version is served, by whatever way", async () => {
    version = await acme.publish("glad", 1);
    // A persona of the version itself needs no alias to be written.
    const { revision } = await acme.compose("glad", version.name);
    expect(revision?.gate.map(({ reason }) => reason)).toEqual(["NOT_APPROVED"]);
    expect(await reasonOf(acme.activate("glad"))).toBe("NOT_APPROVED");
    expect(await reasonOf(acme.point("glad", version))).toBe("NOT_APPROVED");
    expect(await reasonOf(acme.approve(version, "alice"))).toBe("SELF_APPROVAL");
    await acme.followed();
    expect(await reasonOf(replyOf("glad"))).toBe("PERSONA_NOT_FOUND");
    expect((await activeReply()).wears).toBeUndefined();
    expect(await collect(client.listLoadedPersonas())).toEqual([]);
  });

  test("by a second person, the persona is served under its name: to the bit what its vector does", async () => {
    const { releasedRevisions, revision } = await acme.approve(version);
    expect(releasedRevisions).toEqual([`${acme.persona("glad")}/revisions/1`]);
    await acme.followed(revision);
    const expected = await expectedOf(version);
    expect(await replyOf("glad")).toEqual(expected);
    expect(fingerprint(await client.generateText(ask("hello")))).not.toEqual(expected);
  });

  test("activated, it is what calls wear that name none, with the proof of its version", async () => {
    await acme.followed(await acme.activate("glad"));
    expect(await activeReply()).toEqual({ ...(await expectedOf(version)), wears: acme.persona("glad") });
    const { persona: _, ...request } = ask("hello", { maxTokens: 1 });
    const { started } = await client.generateText(request);
    const personas = await acme.as(PersonaService, "viewer");
    const { revision } = await personas.getPersonaRevision({ name: `${acme.persona("glad")}/revisions/1` });
    expect(started.persona).toMatchObject({ revision: revision?.digest, versionDigests: [version.digest] });
  });

  test("withdrawn, it leaves in place what is active, and lets nothing new become so", async () => {
    const approvals = await acme.as(ApprovalService, "approver", { subject: "bob" });
    const { approvals: given } = await approvals.listApprovals({ parent: acme.name, version: version.name });
    await approvals.revokeApproval({ name: given[0]?.name ?? "", reason: "second thoughts" });
    await acme.followed();
    expect((await activeReply()).wears).toBe(acme.persona("glad"));
    const personas = await acme.as(PersonaService, "operator");
    const { revision } = await personas.deactivatePersona({ parent: acme.name });
    await acme.followed(revision);
    expect(await reasonOf(acme.activate("glad"))).toBe("NOT_APPROVED");
    expect(await reasonOf(acme.point("glad", version))).toBe("NOT_APPROVED");
    expect((await activeReply()).wears).toBeUndefined();
  });
});

describe("aliases", () => {
  test("a persona follows its alias to the worker, and one call brings the former bits back", async () => {
    const first = await acme.produce("calm", 11);
    await acme.followed(await acme.activate("calm"));
    const before = await replyOf("calm");
    expect(before).toEqual(await expectedOf(first));

    const second = await acme.publish("calm", 12);
    await acme.approve(second);
    const moved = await acme.point("calm", second);
    expect(moved.personaRevisions).toEqual([`${acme.persona("calm")}/revisions/2`]);
    await acme.followed(moved.revision);
    const after = await replyOf("calm");
    expect(after).toEqual(await expectedOf(second));
    expect(after).not.toEqual(before);
    expect(await activeReply()).toEqual({ ...after, wears: acme.persona("calm") });

    const vectors = await acme.as(VectorService, "operator");
    const { revision } = await vectors.rollbackAlias({ name: acme.production("calm"), reason: "complaints" });
    await acme.followed(revision);
    expect(await replyOf("calm")).toEqual(before);
    expect(await activeReply()).toEqual({ ...before, wears: acme.persona("calm") });
  });
});

describe("revisions", () => {
  test("a call that pins one gets its bits and no others, and is told which one is served instead", async () => {
    const pin = async (number: number) => {
      const selector = { case: "revision" as const, value: `${acme.persona("soft")}/revisions/${number}` };
      return fingerprint(await client.generateText(ask("hello", { persona: { selector } })));
    };
    const first = await acme.produce("soft", 13);
    await acme.followed();
    expect(await pin(1)).toEqual(await expectedOf(first));
    expect(await reasonOf(pin(2))).toBe("REVISION_NOT_SERVED");

    const second = await acme.publish("soft", 14);
    await acme.approve(second);
    await acme.followed((await acme.point("soft", second)).revision);
    expect(await pin(2)).toEqual(await expectedOf(second));
    expect(await failureOf(pin(1))).toMatchObject({
      reason: "REVISION_NOT_SERVED",
      message: expect.stringContaining(`serves ${acme.persona("soft")}/revisions/2`),
    });
  });
});

describe("the alpha cap", () => {
  test("lowered, it takes new calls and running streams down by steps of 0.1; raised over the context, it is refused", async () => {
    const globex = await mesh.tenant("globex");
    const ofGlobex = await mesh.client({ tenant: "globex" });
    const version = await globex.produce("loud", 21, 40);
    await globex.followed();
    const wears = () => ofGlobex.generateText(ask("hello", { as: globex.persona("loud") }));
    const before = await wears();
    expect(before.finished.effectiveAlphaHundredths).toBe(40);

    await withinOneStream(async () => {
      await globex.update({ alphaCapHundredths: 50 });
      await globex.followed();
      const request = ask("hello", { as: globex.persona("loud"), maxTokens: 1_000_000 });
      const running = new RunningStream(ofGlobex, request);
      await running.tokens(3);
      expect(running.started?.persona?.effectiveAlphaHundredths).toBe(40);
      const lowering = globex.update({ alphaCapHundredths: 25 });
      await running.switched();
      await running.tokens(3);
      await lowering;
      expect(running.switches.map(({ persona }) => [persona?.name, persona?.effectiveAlphaHundredths])).toEqual([
        [globex.persona("loud"), 20],
      ]);
      await running.end();
    });

    await globex.followed();
    const lowered = await wears();
    expect(lowered.started.persona?.effectiveAlphaHundredths).toBe(20);
    expect(lowered.finished.effectiveAlphaHundredths).toBe(20);
    expect(fingerprint(lowered)).toEqual(await expectedOf(version, 0.5));

    expect(await reasonOf(globex.update({ alphaCapHundredths: 60 }))).toBe("ALPHA_OVER_CAP");
    expect(await reasonOf(globex.compose("shrill", globex.production("loud"), 40))).toBe("ALPHA_OVER_CAP");
    await globex.update({ alphaCapHundredths: 50 });
    await globex.followed();
    expect(fingerprint(await wears())).toEqual(fingerprint(before));
  });
});

describe("break-glass", () => {
  test("a persona that nobody has approved is served, and waits for a second person's judgement", async () => {
    const version = await acme.publish("urgent", 31);
    await acme.compose("urgent", version.name);
    const personas = await acme.as(PersonaService, "admin");
    const { revision, tenant } = await personas.activatePersona({
      name: acme.persona("urgent"),
      breakGlass: { justification: "outage" },
    });
    expect(tenant?.unreviewedBreakGlass).toBe(1);
    await acme.followed(revision);
    expect(await activeReply()).toEqual({ ...(await expectedOf(version)), wears: acme.persona("urgent") });
    // Active it is, for this once; under its name it is not released.
    expect(await reasonOf(replyOf("urgent"))).toBe("PERSONA_NOT_FOUND");

    const approvals = await acme.as(ApprovalService, "approver", { subject: "bob" });
    const unreviewed = () => approvals.listBreakGlassUses({ parent: acme.name, unreviewedOnly: true });
    const { uses } = await unreviewed();
    expect(uses).toMatchObject([{ action: "ActivatePersona", actor: "alice", justification: "outage" }]);
    const review = { name: uses[0]?.name ?? "", accepted: true, note: "the outage was real" };
    const own = await acme.as(ApprovalService, "approver");
    expect(await reasonOf(own.reviewBreakGlassUse(review))).toBe("SELF_REVIEW");
    await approvals.reviewBreakGlassUse(review);
    expect((await unreviewed()).uses).toEqual([]);
    const tenants = await acme.as(TenantService, "viewer");
    expect((await tenants.getTenant({ name: acme.name })).tenant?.unreviewedBreakGlass).toBe(0);
  });
});

describe("the audit", () => {
  const rootsFile = () => join(mesh.registry.dataDir, "audit-roots.jsonl");
  const trusted = () => ({ tenant: "acme", trustedRoots: readLines(createReadStream(rootsFile())) });

  async function exported(): Promise<string[]> {
    const audit = await acme.as(AuditService, "approver", { subject: "bob" });
    return (await collect(audit.exportAudit({ parent: acme.name }))).map(encodeExportLine);
  }

  test("of all this verifies offline against the roots outside the database, and a changed word does not pass", async () => {
    let lines: string[] = [];
    await until(async () => {
      lines = await exported();
      return (await verifyExport(lines, trusted())).warnings.length === 0;
    }, "every entry is under a root");
    const report = await verifyExport(lines, trusted());
    expect(report).toMatchObject({ ok: true, tenant: "acme", problems: [], warnings: [] });
    const { CHANGES, READS } = report.chains;
    expect(CHANGES.proven).toBe(CHANGES.entries);
    // The worker fetched every version that it serves, four at the time; each read is written down before its bytes go out.
    expect(READS.entries).toBeGreaterThanOrEqual(4n);

    const audit = await acme.as(AuditService, "approver", { subject: "bob" });
    const { entries } = await audit.listAuditEntries({ parent: acme.name, pageSize: 1000 });
    const seen = entries.toReversed().map(({ payload }) => JSON.parse(payload) as { action: string; actor: string });
    expect(CHANGES.entries).toBe(BigInt(entries.length));
    const by = (action: string) => [
      ...new Set(seen.filter((entry) => entry.action === action).map(({ actor }) => actor)),
    ];
    expect(by("CreateTenant")).toEqual(["operations"]);
    expect(by("PublishVersion")).toEqual(["alice"]);
    expect(by("CreateApproval")).toEqual(["bob"]);
    expect(by("RevokeApproval")).toEqual(["bob"]);
    expect(by("RollbackAlias")).toEqual(["alice"]);
    expect(by("BreakGlass")).toEqual(["alice"]);
    expect(by("ReviewBreakGlassUse")).toEqual(["bob"]);

    const forged = lines.map((line) => line.replace("outage", "advert"));
    expect((await verifyExport(forged, trusted())).firstBad).toMatchObject({
      chain: "CHANGES",
      reason: "ENTRY_CHANGED",
    });
  });
});
