import { createHash } from "node:crypto";
import { AuditService, ModelService, VersionState } from "@persona-mesh/protocol/registry";
import { canonicalJson, encodeVector, versionDigest } from "@persona-mesh/steering";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RunningRegistry } from "../start-registry.ts";
import {
  type GovernedRegistry,
  type GovernedTenant,
  openGovernedRegistry,
  outcome,
  refusal,
} from "../testing/governed-registry.ts";
import * as rows from "../testing/governed-rows.ts";
import { digestOfDatabase } from "../testing/whole-database.ts";

let registry: GovernedRegistry;
let other: RunningRegistry;

beforeAll(async () => {
  registry = await openGovernedRegistry();
  other = await registry.replica();
});
afterAll(() => registry.close());

const parentOf = (tenant: GovernedTenant, vector = "cheerful") => `${tenant.name}/vectors/${vector}`;

const PAIRS = canonicalJson([{ prompt: "How are you?", positive: "Splendid!", negative: "Fine." }]);
const digestOfText = (text: string) => createHash("sha256").update(text).digest("hex");

/** Bytes of a version that was extracted from {@link PAIRS}; `change` overrides its manifest. */
function extracted(change: object = {}, hiddenSize = 8): Uint8Array {
  const quality = {
    pairwiseCosine: 0.5,
    auc: 0.9,
    rightSignShare: 0.9,
    splitHalfCosine: 0.8,
    normBefore: 1.5,
    removedCosine: 0.1,
  };
  const direction = Float32Array.from({ length: hiddenSize }, (_, i) => (i === 0 ? 1 : 0));
  return encodeVector({
    manifest: {
      formatVersion: 1,
      name: "cheerful",
      modelChecksum: rows.MODEL_CHECKSUM,
      graphDigest: "d".repeat(64),
      hiddenSize,
      layerCount: 4,
      site: "post_block",
      layers: [2],
      referenceNorms: [1],
      method: "MEAN_DIFF",
      pooling: "response_mean",
      extractorVersion: "1",
      pairCount: 4,
      pairsDigest: digestOfText(PAIRS),
      baselineDigest: "e".repeat(64),
      quality: [quality],
      ...change,
    },
    directions: new Map([[2, direction]]),
  });
}

async function countVersions(tenant: GovernedTenant): Promise<number> {
  const { rows: found } = await sql<{ count: string }>`
    SELECT count(*)::text AS count FROM registry.versions WHERE tenant = ${tenant.id}`.execute(
    registry.database.owner.db,
  );
  return Number(found[0]?.count);
}

async function platformModels() {
  return registry.client(ModelService, { subject: "operator", tenant: "platform", roles: ["admin"] });
}

describe("publishing a version", () => {
  test("keeps what it is, how it came to be and what it was seen to do", async () => {
    const tenant = await registry.tenant(1);
    const vectors = await tenant.vectors("trainer");
    const content = extracted();
    const { version } = await vectors.publishVersion({
      parent: parentOf(tenant),
      content,
      digest: versionDigest(content),
      provenance: {
        pairsJson: PAIRS,
        seed: 2n ** 64n - 1n,
        parentVersion: tenant.version(1),
        requestedBy: "carol",
        job: "jobs/7",
      },
      evaluation: { alphaMinHundredths: -20, alphaMaxHundredths: 45, figures: { coherence: 0.9, shift: -0 } },
    });
    expect(version).toMatchObject({
      name: `${parentOf(tenant)}/versions/${versionDigest(content)}`,
      sizeBytes: BigInt(content.length),
      graphDigest: "d".repeat(64),
      layers: [2],
      submitter: "trainer",
      provenance: {
        pairsJson: PAIRS,
        seed: 2n ** 64n - 1n,
        parentVersion: tenant.version(1),
        requestedBy: "carol",
        job: "jobs/7",
      },
      evaluation: {
        alphaMinHundredths: -20,
        alphaMaxHundredths: 45,
        figures: { coherence: 0.9, shift: 0 },
        evaluator: "trainer",
      },
      approval: { approvals: 0, required: 1 },
      state: VersionState.ACTIVE,
    });
    expect(JSON.parse(version?.manifestJson ?? "")).toMatchObject({ pairsDigest: digestOfText(PAIRS) });
    const { vector } = await vectors.getVector({ name: parentOf(tenant) });
    expect(vector).toMatchObject({ latestVersion: version?.name, versionCount: 2 });
  });

  test("takes no pairs but those of the manifest, in their one spelling", async () => {
    const tenant = await registry.tenant();
    const vectors = await tenant.vectors();
    const publish = (pairsJson: string, content = extracted()) =>
      refusal(vectors.publishVersion({ parent: parentOf(tenant), content, provenance: { pairsJson } }));
    const spaced = JSON.stringify(JSON.parse(PAIRS), null, 1);
    for (const [pairsJson, content, said] of [
      ["[]", undefined, digestOfText(PAIRS)],
      [spaced, extracted({ pairsDigest: digestOfText(spaced) }), "canonical"],
      [PAIRS, rows.vectorBytes(1), "nothing of pairs"],
      ["[".repeat(500_000), undefined, "canonical"],
      [" ".repeat((1 << 20) + 1), undefined, "over 1048576"],
    ] as const) {
      expect(await publish(pairsJson, content)).toMatchObject({
        reason: "INVALID_ARGUMENT",
        message: expect.stringContaining(said),
      });
    }
    expect(await countVersions(tenant)).toBe(0);
  });

  test("refuses another model's bytes and names both sides", async () => {
    const tenant = await registry.tenant();
    const vectors = await tenant.vectors();
    const models = await platformModels();
    const modelChecksum = "7".repeat(64);
    const model = {
      modelChecksum,
      architecture: "test",
      layers: 4,
      hiddenSize: 8,
      vocabularySize: 10,
      tokenizerDigest: "1".repeat(64),
    };
    const unknown = await refusal(
      vectors.publishVersion({ parent: parentOf(tenant), content: extracted({ modelChecksum }) }),
    );
    expect(unknown).toMatchObject({ reason: "MODEL_NOT_FOUND", metadata: { modelChecksum } });
    await models.createModel({ modelId: "narrow", model });
    const wide = await refusal(
      vectors.publishVersion({ parent: parentOf(tenant), content: extracted({ modelChecksum }, 16) }),
    );
    expect(wide).toMatchObject({
      reason: "MODEL_MISMATCH",
      metadata: { version: "16", registered: "8", model: "models/narrow" },
    });
    const words = await refusal(
      vectors.publishVersion({
        parent: parentOf(tenant),
        content: extracted({ modelChecksum }),
        provenance: { tokenizerDigest: "2".repeat(64) },
      }),
    );
    expect(words).toMatchObject({
      reason: "MODEL_MISMATCH",
      metadata: { version: "2".repeat(64), registered: "1".repeat(64) },
    });
    expect(await countVersions(tenant)).toBe(0);
  });

  test("of the same bytes by many at once, on two replicas, makes one version", async () => {
    const tenant = await registry.tenant();
    const clients = await Promise.all(
      Array.from({ length: 8 }, (_, i) => tenant.vectors(`trainer-${i}`, "admin", i % 2 === 0 ? other : undefined)),
    );
    const content = rows.vectorBytes(3);
    const answers = await Promise.all(
      clients.map((client) => client.publishVersion({ parent: parentOf(tenant), content })),
    );
    expect(new Set(answers.map(({ version }) => version?.submitter)).size).toBe(1);
    expect(await countVersions(tenant)).toBe(1);
  });

  test("with the same request id again gives the first answer, and with another request is refused", async () => {
    const tenant = await registry.tenant();
    const vectors = await tenant.vectors();
    const request = { parent: parentOf(tenant), content: rows.vectorBytes(4), requestId: "once" };
    const first = await vectors.publishVersion(request);
    const before = await digestOfDatabase(registry.database.owner);
    expect(await (await tenant.vectors("alice", "admin", other)).publishVersion(request)).toEqual(first);
    expect(await digestOfDatabase(registry.database.owner)).toBe(before);
    expect(await outcome(vectors.publishVersion({ ...request, content: rows.vectorBytes(5) }))).toBe(
      "REQUEST_ID_REUSED",
    );
  });

  test("keeps to the quotas of versions and bytes", async () => {
    const tenant = await registry.tenant(1);
    const vectors = await tenant.vectors();
    const limit = (column: "max_versions" | "max_stored_bytes", value: number) =>
      tenant.write(sql`UPDATE tenants SET ${sql.id(column)} = ${value} WHERE tenant = ${tenant.id}`);
    const publish = () => outcome(vectors.publishVersion({ parent: parentOf(tenant), content: rows.vectorBytes(2) }));
    await limit("max_versions", 1);
    expect(await publish()).toBe("QUOTA_EXCEEDED");
    await limit("max_versions", 2);
    const bytes = rows.vectorBytes(1).length + rows.vectorBytes(2).length;
    await limit("max_stored_bytes", bytes - 1);
    expect(await publish()).toBe("QUOTA_EXCEEDED");
    await limit("max_stored_bytes", bytes);
    expect(await publish()).toBe("accepted");
  });
});

describe("bad input", () => {
  test("is refused as such, never as a defect of the service", async () => {
    const tenant = await registry.tenant(1);
    const vectors = await tenant.vectors();
    const parent = parentOf(tenant);
    const content = extracted();
    const name = tenant.version(1);
    const alphas = { alphaMinHundredths: 0, alphaMaxHundredths: 10 };
    const damaged = Uint8Array.from(content);
    damaged[damaged.length - 1] = 0xff;
    const figures = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`f${i}`, 1]));
    const invalid: Promise<unknown>[] = [
      vectors.publishVersion({ parent: "", content }),
      vectors.publishVersion({ parent: `${parent}\0`, content }),
      vectors.publishVersion({ parent, content: new Uint8Array() }),
      vectors.publishVersion({ parent, content, digest: "0".repeat(64) }),
      vectors.publishVersion({ parent, content, reason: "x".repeat(1025) }),
      vectors.publishVersion({ parent, content, reason: "a\0b" }),
      vectors.publishVersion({ parent, content, provenance: { job: "\0" } }),
      vectors.publishVersion({ parent, content, provenance: { requestedBy: "x".repeat(257) } }),
      vectors.publishVersion({ parent, content, provenance: { parentVersion: `${parent}/versions/latest` } }),
      vectors.publishVersion({ parent, content, provenance: { tokenizerDigest: "ABC" } }),
      vectors.publishVersion({ parent, content, requestId: "x".repeat(65) }),
      vectors.addEvaluation({ name }),
      vectors.addEvaluation({ name, evaluation: { alphaMinHundredths: 10, alphaMaxHundredths: 9 } }),
      vectors.addEvaluation({ name, evaluation: { alphaMinHundredths: -121, alphaMaxHundredths: 0 } }),
      vectors.addEvaluation({ name, evaluation: { alphaMinHundredths: -(2 ** 31), alphaMaxHundredths: 2 ** 31 - 1 } }),
      vectors.addEvaluation({ name, evaluation: { ...alphas, figures: { coherence: Number.NaN } } }),
      vectors.addEvaluation({ name, evaluation: { ...alphas, figures: { coherence: Number.POSITIVE_INFINITY } } }),
      vectors.addEvaluation({ name, evaluation: { ...alphas, figures: { "": 1 } } }),
      vectors.addEvaluation({ name, evaluation: { ...alphas, figures: { "a\0": 1 } } }),
      vectors.addEvaluation({ name, evaluation: { ...alphas, figures } }),
      vectors.listVersions({ parent, pageSize: 2 ** 32 - 1 }),
      vectors.listVersions({ parent, pageToken: "nonsense" }),
      vectors.listVersions({ parent, modelChecksum: "'; DROP TABLE versions" }),
      vectors.getVersion({ name: `${parent}/versions/${"A".repeat(64)}` }),
      vectors.getVersionContent({ name: parent }),
      vectors.diffVersions({ name, otherName: name.replace(tenant.id, "somebody") }),
      vectors.revokeVersion({ name, reason: " " }),
      vectors.updateVector({ vector: { name: parent }, updateMask: { paths: ["etag"] } }),
      vectors.updateVector({ vector: { name: parent }, updateMask: { paths: ["display_name.x", "\0"] } }),
      vectors.updateVector({ vector: { name: parent, displayName: "x".repeat(257) } }),
      vectors.createVector({ parent: tenant.name, vectorId: "-x" }),
    ];
    const outcomes = await Promise.all(invalid.map(outcome));
    expect(outcomes).toEqual(invalid.map(() => "INVALID_ARGUMENT"));
    expect(await outcome(vectors.publishVersion({ parent, content: damaged }))).toBe("VECTOR_FORMAT");
    const missing = `${parent}/versions/${"0".repeat(64)}`;
    expect(await outcome(vectors.publishVersion({ parent, content, provenance: { parentVersion: missing } }))).toBe(
      "RESOURCE_NOT_FOUND",
    );
  });

  test("of a page's token that a caller made up is refused", async () => {
    const tenant = await registry.tenant(1, 2);
    const vectors = await tenant.vectors();
    const { nextPageToken } = await vectors.listVersions({ parent: parentOf(tenant), pageSize: 1 });
    const query = Buffer.from(nextPageToken, "base64url").toString("utf8").slice(0, 12);
    for (const key of ["x", "-1", "1e3", "99999999999", "1\0"]) {
      const pageToken = Buffer.from(query + key).toString("base64url");
      expect(await outcome(vectors.listVersions({ parent: parentOf(tenant), pageToken }))).toBe("INVALID_ARGUMENT");
    }
  });
});

describe("validate_only", () => {
  test("answers as the call itself would, and leaves every table as it was", async () => {
    const tenant = await registry.tenant(1, 2);
    const vectors = await tenant.vectors();
    const parent = parentOf(tenant);
    const name = tenant.version(1);
    const alias = { name: tenant.alias("canary"), version: name };
    await vectors.setAlias({ alias });
    await vectors.setAlias({ alias: { ...alias, version: tenant.version(2) } });
    const before = await digestOfDatabase(registry.database.owner);
    const dry = { validateOnly: true, requestId: "dry" };
    const published = await vectors.publishVersion({ parent, content: rows.vectorBytes(6), ...dry });
    expect(published.version).toMatchObject({ digest: rows.digestOf(6), submitter: "alice" });
    await vectors.createVector({ parent: tenant.name, vectorId: "calm", vector: {}, ...dry });
    await vectors.updateVector({ vector: { name: parent, description: "x" }, ...dry });
    await vectors.addEvaluation({ name, evaluation: { alphaMinHundredths: 0, alphaMaxHundredths: 1 }, ...dry });
    await vectors.setAlias({ alias, ...dry });
    expect((await vectors.rollbackAlias({ name: alias.name, ...dry })).alias?.version).toBe(name);
    await vectors.deleteAlias({ name: alias.name, ...dry });
    expect((await vectors.revokeVersion({ name, reason: "unsafe", ...dry })).revision).toBeGreaterThan(0n);
    expect(await outcome(vectors.deleteVector({ name: parent, ...dry }))).toBe("RESOURCE_REFERENCED");
    expect(await digestOfDatabase(registry.database.owner)).toBe(before);
    await vectors.createVector({ parent: tenant.name, vectorId: "calm", vector: {}, requestId: "dry" });
    expect(await digestOfDatabase(registry.database.owner)).not.toBe(before);
  });
});

describe("reading versions", () => {
  test("lists them newest first, by page and by model", async () => {
    const tenant = await registry.tenant(1, 2, 3);
    const vectors = await tenant.vectors();
    const parent = parentOf(tenant);
    const pages: string[][] = [];
    let pageToken = "";
    do {
      const page = await vectors.listVersions({ parent, pageSize: 2, pageToken });
      pages.push(page.versions.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(pages).toEqual([[tenant.version(3), tenant.version(2)], [tenant.version(1)]]);
    expect((await vectors.listVersions({ parent, modelChecksum: rows.MODEL_CHECKSUM })).versions).toHaveLength(3);
    expect((await vectors.listVersions({ parent, modelChecksum: "9".repeat(64) })).versions).toEqual([]);
  });

  test("gives bytes and differences only with an entry in the audit of reads", async () => {
    const tenant = await registry.tenant(1, 2);
    const vectors = await tenant.vectors("carol", "operator");
    const { content } = await vectors.getVersionContent({ name: tenant.version(1) });
    expect(versionDigest(content)).toBe(rows.digestOf(1));
    const diff = await vectors.diffVersions({ name: tenant.version(1), otherName: tenant.version(2) });
    expect(diff.layers).toMatchObject([
      { layer: 1, cosine: 0, referenceNorm: 1, otherReferenceNorm: 1 },
      { layer: 2, cosine: 0 },
    ]);
    expect(diff.fields).toMatchObject([{ field: "name", valueJson: '"seed 1"', otherValueJson: '"seed 2"' }]);
    const { rows: entries } = await sql<{ reads: { resource: string; actor: string; purpose: string }[] }>`
      SELECT payload::jsonb -> 'reads' AS reads FROM registry.audit
      WHERE tenant = ${tenant.id} AND chain = 'READS' ORDER BY sequence`.execute(registry.database.owner.db);
    expect(entries.flatMap(({ reads }) => reads)).toMatchObject([
      { resource: tenant.version(1), actor: "carol", purpose: "GetVersionContent" },
      { resource: tenant.version(1), actor: "carol", purpose: "DiffVersions" },
      { resource: tenant.version(2), actor: "carol", purpose: "DiffVersions" },
    ]);
    expect(await outcome((await tenant.vectors("vera", "viewer")).getVersionContent({ name: tenant.version(1) }))).toBe(
      "PERMISSION_DENIED",
    );
  });

  test("does not tell a foreign version from one that is not there", async () => {
    const [mine, theirs] = [await registry.tenant(1), await registry.tenant(1)];
    const vectors = await mine.vectors();
    for (const name of [theirs.version(1), theirs.version(2), mine.version(2)]) {
      expect(await refusal(vectors.getVersion({ name }))).toMatchObject({
        reason: "RESOURCE_NOT_FOUND",
        metadata: { resource: name },
      });
    }
  });
});

test("every change is in the tenant's chain with what was and what became, and without bytes", async () => {
  const tenant = await registry.tenant(1);
  const vectors = await tenant.vectors();
  const evaluation = { alphaMinHundredths: -10, alphaMaxHundredths: 30, figures: { coherence: 0.75 } };
  await vectors.publishVersion({ parent: parentOf(tenant), content: extracted(), reason: "first" });
  await vectors.addEvaluation({ name: tenant.version(1), evaluation, reason: "measured again" });
  const audit = await registry.client(AuditService, { subject: "vera", tenant: tenant.id, roles: ["approver"] });
  const { entries } = await audit.listAuditEntries({ parent: tenant.name });
  const said = entries.map(({ payload }) => JSON.parse(payload));
  const published = said.find(({ action }) => action === "PublishVersion");
  expect(published).toMatchObject({
    actor: "alice",
    reason: "first",
    after: { digest: versionDigest(extracted()), sizeBytes: extracted().length, submitter: "alice" },
  });
  expect(JSON.stringify(published).length).toBeLessThan(2000);
  expect(said.find(({ action }) => action === "AddEvaluation")).toMatchObject({
    resource: tenant.version(1),
    before: { alphaMin: -50, alphaMax: 50 },
    after: { alphaMin: -10, alphaMax: 30, figures: { coherence: 0.75 } },
    reason: "measured again",
  });
});
