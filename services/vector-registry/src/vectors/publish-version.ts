import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type Evaluation,
  type PublishVersionRequest,
  PublishVersionRequestSchema,
  PublishVersionResponseSchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { canonicalJson, type JsonValue } from "@persona-mesh/steering";
import { type Selectable, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { ModelsTable, VersionsTable } from "../database/schema.ts";
import { notFound } from "../failures.ts";
import { holdModel } from "../models/model-use.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { VECTOR_NAME, VERSION_NAME } from "../resource-name.ts";
import { figuresOf, storeEvaluation } from "./add-evaluation.ts";
import { requireVersionQuota } from "./quotas.ts";
import { readLiveVector, type VectorIds } from "./vector-rows.ts";
import { versionMessage } from "./version-message.ts";
import { evaluationViolations, type WrittenVersion, writtenVersion } from "./written-version.ts";

/** Store a version for ever. The same bytes again, from whomever, give the version that is there. */
export async function publishVersion(
  { transactor }: Registry,
  request: PublishVersionRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof PublishVersionResponseSchema>> {
  const ids = VECTOR_NAME.parse(request.parent, "parent");
  const written = writtenVersion(request, ids);
  requireFields(evaluationViolations(request.evaluation), textViolations("reason", request.reason, REASON));
  const resource = VERSION_NAME.format({ ...ids, digest: written.digest });
  const schemas = { requestSchema: PublishVersionRequestSchema, responseSchema: PublishVersionResponseSchema };
  return transactor.mutate({ context, tenant: ids.tenant, resource, request, ...schemas }, async (mutation) => {
    const { db } = mutation;
    await readLiveVector(db, ids);
    const present = await readVersion(mutation, ids, written.digest);
    if (present !== undefined) {
      mutation.audit({ action: "PublishVersionAgain", resource, after: { unchanged: true }, reason: request.reason });
      return { version: await versionMessage(db, present) };
    }
    await requireModel(mutation, written);
    await requireVersionQuota(mutation, ids, written.bytes.length);
    const row = await store(mutation, ids, written);
    if (request.evaluation !== undefined) await storeEvaluation(mutation, row, request.evaluation);
    mutation.audit({
      action: "PublishVersion",
      resource,
      after: published(row, written, request.evaluation),
      reason: request.reason,
    });
    return { version: await versionMessage(db, row) };
  });
}

function readVersion({ db }: Mutation, { tenant, vector }: VectorIds, digest: string) {
  return db
    .selectFrom("versions")
    .selectAll()
    .where("tenant", "=", tenant)
    .where("vector", "=", vector)
    .where("digest", "=", digest)
    .executeTakeFirst();
}

async function store(mutation: Mutation, ids: VectorIds, written: WrittenVersion): Promise<Selectable<VersionsTable>> {
  const { db, actor } = mutation;
  const { tenant, vector } = ids;
  const { digest, manifest, provenance, parentDigest } = written;
  if (parentDigest !== null && (await readVersion(mutation, ids, parentDigest)) === undefined) {
    throw notFound(VERSION_NAME.format({ ...ids, digest: parentDigest }));
  }
  await db
    .insertInto("contents")
    .values({ tenant, digest, bytes: Buffer.from(written.bytes) })
    // Another vector of the tenant may have the same bytes.
    .onConflict((conflict) => conflict.doNothing())
    .execute();
  return db
    .insertInto("versions")
    .values({
      tenant,
      vector,
      digest,
      number: sql<number>`(SELECT coalesce(max(number), 0) + 1 FROM versions WHERE tenant = ${tenant} AND vector = ${vector})`,
      model_checksum: manifest.modelChecksum,
      graph_digest: manifest.graphDigest ?? "",
      tokenizer_digest: provenance.tokenizerDigest,
      hidden_size: manifest.hiddenSize,
      layer_count: manifest.layerCount,
      layers: [...manifest.layers],
      site: manifest.site,
      manifest: canonicalJson(manifest as unknown as JsonValue),
      pairs: provenance.pairsJson,
      seed: written.seed,
      parent_digest: parentDigest,
      submitter: actor,
      requested_by: provenance.requestedBy,
      job: provenance.job,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/** That the version fits a registered model: the database insists on it too, this says which side differs how. */
async function requireModel({ db }: Mutation, { manifest, provenance }: WrittenVersion): Promise<void> {
  await holdModel(db, manifest.modelChecksum);
  const model = await db
    .selectFrom("models")
    .selectAll()
    .where("model_checksum", "=", manifest.modelChecksum)
    .where("deleted_at", "is", null)
    .executeTakeFirst();
  if (model === undefined) {
    throw new ServiceError("MODEL_NOT_FOUND", `no model with the checksum ${manifest.modelChecksum} is registered`, {
      metadata: { modelChecksum: manifest.modelChecksum },
    });
  }
  const differs = mismatch(model, manifest, provenance.tokenizerDigest);
  if (differs === undefined) return;
  const { what, version, registered } = differs;
  throw new ServiceError(
    "MODEL_MISMATCH",
    `the version was made for ${what} ${version}; models/${model.model} has ${what} ${registered}`,
    { metadata: { field: what, version, registered, model: `models/${model.model}` } },
  );
}

function mismatch(
  model: Selectable<ModelsTable>,
  { hiddenSize, layerCount }: WrittenVersion["manifest"],
  tokenizer: string,
): { readonly what: string; readonly version: string; readonly registered: string } | undefined {
  const pairs: readonly [string, string, string][] = [
    ["hidden size", String(hiddenSize), String(model.hidden_size)],
    ["layer count", String(layerCount), String(model.layers)],
    ...(tokenizer === "" || model.tokenizer_digest === ""
      ? []
      : [["tokenizer", tokenizer, model.tokenizer_digest] satisfies [string, string, string]]),
  ];
  const pair = pairs.find(([, version, registered]) => version !== registered);
  return pair && { what: pair[0], version: pair[1], registered: pair[2] };
}

/** What the audit says of a new version: everything but its bytes, which its digest stands for. */
function published(
  row: Selectable<VersionsTable>,
  written: WrittenVersion,
  evaluation: Evaluation | undefined,
): JsonValue {
  return {
    digest: row.digest,
    sizeBytes: written.bytes.length,
    modelChecksum: row.model_checksum,
    graphDigest: row.graph_digest,
    layers: row.layers,
    submitter: row.submitter,
    requestedBy: row.requested_by,
    job: row.job,
    seed: row.seed,
    parentDigest: row.parent_digest,
    ...(evaluation === undefined
      ? {}
      : {
          alphaMin: evaluation.alphaMinHundredths,
          alphaMax: evaluation.alphaMaxHundredths,
          figures: figuresOf(evaluation),
        }),
  };
}
