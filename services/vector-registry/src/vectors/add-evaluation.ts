import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type AddEvaluationRequest,
  AddEvaluationRequestSchema,
  AddEvaluationResponseSchema,
  type Evaluation,
} from "@persona-mesh/protocol/registry";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { canonicalJson } from "@persona-mesh/steering";
import { type Selectable, sql } from "kysely";
import type { Mutation } from "../database/mutation.ts";
import type { VersionsTable } from "../database/schema.ts";
import { releaseReady } from "../personas/release.ts";
import type { Registry } from "../registry.ts";
import { REASON, requireFields, textViolations } from "../request-fields.ts";
import { VERSION_NAME } from "../resource-name.ts";
import { resolveVersion } from "./resolve-version.ts";
import { versionMessage } from "./version-message.ts";
import { newestEvaluation } from "./version-standing.ts";
import { evaluationViolations } from "./written-version.ts";

/** Of one version: a program that evaluates without end is stopped. */
const MAX_EVALUATIONS = 1000;

type VersionRow = Selectable<VersionsTable>;

/** What a version was seen to do since; the range of alphas that holds from now on. Personas may become ready by it. */
export async function addEvaluation(
  { transactor }: Registry,
  request: AddEvaluationRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof AddEvaluationResponseSchema>> {
  const ids = VERSION_NAME.parse(request.name, "name");
  const { evaluation } = request;
  if (evaluation === undefined) throw ServiceError.invalid([{ field: "evaluation", description: "is needed" }]);
  requireFields(evaluationViolations(evaluation), textViolations("reason", request.reason, REASON));
  const schemas = { requestSchema: AddEvaluationRequestSchema, responseSchema: AddEvaluationResponseSchema };
  const scope = { context, tenant: ids.tenant, resource: request.name, request, ...schemas };
  return transactor.mutate(scope, async (mutation) => {
    const { db } = mutation;
    const version = await resolveVersion(db, request.name, "name");
    const before = await newestEvaluation(db, version);
    if ((before?.number ?? 0) >= MAX_EVALUATIONS) {
      throw new ServiceError(
        "QUOTA_EXCEEDED",
        `"${request.name}" has ${MAX_EVALUATIONS} evaluations, and takes no more`,
      );
    }
    await storeEvaluation(mutation, version, evaluation);
    mutation.audit({
      action: "AddEvaluation",
      resource: request.name,
      ...(before === undefined ? {} : { before: { alphaMin: before.alpha_min, alphaMax: before.alpha_max } }),
      after: {
        alphaMin: evaluation.alphaMinHundredths,
        alphaMax: evaluation.alphaMaxHundredths,
        figures: figuresOf(evaluation),
      },
      reason: request.reason,
    });
    await releaseReady(mutation, { vector: version.vector, digest: version.digest });
    return { version: await versionMessage(db, version) };
  });
}

export async function storeEvaluation(
  { db, actor }: Mutation,
  { tenant, vector, digest }: Pick<VersionRow, "tenant" | "vector" | "digest">,
  evaluation: Evaluation,
): Promise<void> {
  await db
    .insertInto("evaluations")
    .values({
      tenant,
      vector,
      digest,
      number: sql<number>`(SELECT coalesce(max(number), 0) + 1 FROM evaluations
        WHERE tenant = ${tenant} AND vector = ${vector} AND digest = ${digest})`,
      alpha_min: evaluation.alphaMinHundredths,
      alpha_max: evaluation.alphaMaxHundredths,
      figures: canonicalJson(figuresOf(evaluation)),
      // Whoever calls is who answers for the figures.
      evaluator: actor,
    })
    .execute();
}

/** As canonical JSON can say them: it has no −0. */
export function figuresOf({ figures }: Evaluation): Record<string, number> {
  return Object.fromEntries(Object.entries(figures).map(([name, figure]) => [name, figure === 0 ? 0 : figure]));
}
