import { ModelService, ResourceState, TenantService, VectorService } from "@persona-mesh/protocol/registry";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { outcome, refusal } from "../testing/governed-registry.ts";
import * as rows from "../testing/governed-rows.ts";
import { openTestRegistry, type TestRegistry } from "../testing/test-registry.ts";
import { digestOfDatabase } from "../testing/whole-database.ts";

let registry: TestRegistry;
let count = 0;

beforeAll(async () => {
  registry = await openTestRegistry();
});
afterAll(() => registry.close());

const platform = () => registry.client(ModelService, { subject: "operator", tenant: "platform", roles: ["admin"] });

function facts(change: object = {}) {
  return {
    modelChecksum: (++count).toString(16).padStart(64, "0"),
    architecture: "test",
    layers: 4,
    hiddenSize: 8,
    vocabularySize: 100,
    referenceNorms: [1, 2, 3, 4],
    ...change,
  };
}

describe("registering a model", () => {
  test("again, by a worker at its start, gives the model that is there", async () => {
    const model = facts();
    const { model: made } = await (await platform()).createModel({ modelId: "starter", model });
    const worker = await registry.service(ModelService, "inference");
    expect((await worker.createModel({ modelId: "another-name", model })).model).toEqual(made);
    const answers = await Promise.all(
      Array.from({ length: 4 }, () =>
        worker.createModel({ modelId: "fresh", model: { ...facts(), modelChecksum: "f".repeat(64) } }),
      ),
    );
    expect(new Set(answers.map(({ model: it }) => it?.etag)).size).toBe(1);
  });

  test("with other facts under its checksum, or its id for other weights, is refused", async () => {
    const models = await platform();
    const model = facts();
    await models.createModel({ modelId: "wide", model });
    expect(await refusal(models.createModel({ modelId: "wide", model: { ...model, hiddenSize: 16 } }))).toMatchObject({
      reason: "RESOURCE_EXISTS",
      metadata: { resource: "models/wide", field: "hidden_size" },
    });
    expect(await outcome(models.createModel({ modelId: "wide", model: facts() }))).toBe("RESOURCE_EXISTS");
  });

  test("is not for tenants, and bad facts are refused as such", async () => {
    const tenant = await registry.client(ModelService, { tenant: "acme", roles: ["admin"] });
    expect(await outcome(tenant.createModel({ modelId: "mine", model: facts() }))).not.toBe("accepted");
    const models = await platform();
    const bad = [
      { modelChecksum: "ABC" },
      { modelChecksum: "" },
      { architecture: "" },
      { architecture: "a\0" },
      { layers: 0, referenceNorms: [] },
      { layers: 513, referenceNorms: [] },
      { hiddenSize: 2 ** 32 - 1 },
      { vocabularySize: 2 ** 31 },
      { tokenizerDigest: "x" },
      { referenceNorms: [1] },
      { referenceNorms: [1, 2, 3, Number.NaN] },
      { referenceNorms: [1, 2, 3, Number.POSITIVE_INFINITY] },
      { referenceNorms: [1, 2, 3, 0] },
      { displayName: "x".repeat(257) },
    ].map((change) => outcome(models.createModel({ modelId: "bad", model: facts(change) })));
    expect(await Promise.all(bad)).toEqual(bad.map(() => "INVALID_ARGUMENT"));
    expect(await outcome(models.createModel({ modelId: "bad" }))).toBe("INVALID_ARGUMENT");
    expect(await outcome(models.createModel({ modelId: "Bad", model: facts() }))).toBe("INVALID_ARGUMENT");
  });
});

describe("a model", () => {
  test("stays what it is but for its name and norms", async () => {
    const models = await platform();
    const { model } = await models.createModel({ modelId: "stable", model: facts() });
    const name = "models/stable";
    for (const path of ["layers", "hidden_size", "model_checksum", "tokenizer_digest", "*"]) {
      const change = models.updateModel({ model: { name, layers: 9 }, updateMask: { paths: [path] } });
      expect(await outcome(change)).toBe("INVALID_ARGUMENT");
    }
    const { model: named } = await models.updateModel({
      model: { name, displayName: "Stable", referenceNorms: [5, 6, 7, 8] },
    });
    expect(named).toMatchObject({ displayName: "Stable", referenceNorms: [5, 6, 7, 8], layers: 4 });
    const stale = models.updateModel({ model: { name, displayName: "x", etag: model?.etag ?? "" } });
    expect(await outcome(stale)).toBe("ETAG_MISMATCH");
    expect(await outcome(models.updateModel({ model: { name, referenceNorms: [1] } }))).toBe("INVALID_ARGUMENT");
  });

  test("is deleted softly, and only while no version of any tenant is of it", async () => {
    const models = await platform();
    const model = facts({ modelChecksum: rows.MODEL_CHECKSUM });
    await models.createModel({ modelId: "base", model });
    const name = "models/base";
    const before = await digestOfDatabase(registry.database.owner);
    await models.deleteModel({ name, validateOnly: true });
    expect(await digestOfDatabase(registry.database.owner)).toBe(before);
    expect((await models.deleteModel({ name })).model?.state).toBe(ResourceState.DELETED);
    expect(await outcome(models.createModel({ modelId: "base", model }))).toBe("RESOURCE_EXISTS");
    const tenants = await registry.client(TenantService, { subject: "operator", tenant: "platform", roles: ["admin"] });
    await tenants.createTenant({ tenantId: "acme" });
    const vectors = await registry.client(VectorService, {});
    await vectors.createVector({ parent: "tenants/acme", vectorId: "cheerful" });
    const publish = (seed: number) =>
      outcome(vectors.publishVersion({ parent: "tenants/acme/vectors/cheerful", content: rows.vectorBytes(seed) }));
    expect(await publish(1)).toBe("MODEL_NOT_FOUND");
    await models.undeleteModel({ name });
    // At the same moment: either the version is there and the model stays, or the model goes and the version is refused.
    const [published, deleted] = await Promise.all([publish(2), outcome(models.deleteModel({ name }))]);
    expect([`${published} ${deleted}`]).toEqual([
      published === "accepted" ? "accepted RESOURCE_REFERENCED" : "MODEL_NOT_FOUND accepted",
    ]);
    await models.undeleteModel({ name });
    expect(await publish(2)).toBe("accepted");
    expect(await refusal(models.deleteModel({ name }))).toMatchObject({
      reason: "RESOURCE_REFERENCED",
      message: expect.not.stringContaining("acme"),
    });
  });

  test("is seen by every tenant, and listed by page", async () => {
    const models = await platform();
    for (const modelId of ["list-a", "list-b", "list-c"]) await models.createModel({ modelId, model: facts() });
    const viewer = await registry.client(ModelService, { tenant: "acme", roles: ["viewer"] });
    expect((await viewer.getModel({ name: "models/list-a" })).model?.architecture).toBe("test");
    expect(await outcome(viewer.getModel({ name: "models/nothing" }))).toBe("RESOURCE_NOT_FOUND");
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await viewer.listModels({ pageSize: 2, pageToken });
      seen.push(...page.models.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    expect(seen).toEqual([...new Set(seen)].sort());
    expect(seen).toEqual(expect.arrayContaining(["models/list-a", "models/list-b", "models/list-c"]));
  });

  test("has its changes in the platform's chain", async () => {
    const models = await platform();
    await models.createModel({ modelId: "told", model: facts() });
    await models.updateModel({ model: { name: "models/told", displayName: "Told" }, reason: "a name" });
    const { rows: entries } = await sql<{ payload: string }>`
      SELECT payload FROM registry.audit WHERE tenant = 'platform' AND resource = 'models/told' ORDER BY sequence`.execute(
      registry.database.owner.db,
    );
    expect(entries.map(({ payload }) => JSON.parse(payload))).toMatchObject([
      { action: "CreateModel", after: { layers: 4 } },
      { action: "UpdateModel", before: { displayName: "" }, after: { displayName: "Told" }, reason: "a name" },
    ]);
  });
});
