import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  type GetDistributionRequest,
  type GetDistributionResponseSchema,
  type ReportWorkerRequest,
  WorkerState,
} from "@persona-mesh/protocol/registry";
import { type CallContext, type FieldViolation, requireTenant, ServiceError } from "@persona-mesh/service";
import { sql } from "kysely";
import { z } from "zod";
import { requireKnownTenant } from "../audit/known-tenant.ts";
import { notFound } from "../failures.ts";
import { pageOf } from "../paging.ts";
import { TENANT_NAME } from "../resource-name.ts";
import type { Distribution } from "./distribution.ts";
import { requireModelChecksum, requireWorkerName } from "./worker-fields.ts";

const MAX_PROBLEMS = 100;
const MAX_TEXT = 512;
const MAX_REVISION = 2n ** 63n - 1n;

const STATES = {
  NOT_READY: WorkerState.NOT_READY,
  READY: WorkerState.READY,
  STALE: WorkerState.STALE,
  ERROR: WorkerState.ERROR,
} as const;

const problem = z.object({ tenant: z.string(), resource: z.string(), reason: z.string(), message: z.string() });

/** Write down what a worker has in force. */
export async function reportWorker({ reports }: Distribution, request: ReportWorkerRequest): Promise<object> {
  const worker = requireWorkerName(request.worker);
  const model = requireModelChecksum(request.modelChecksum);
  const state = (Object.keys(STATES) as (keyof typeof STATES)[]).find((name) => STATES[name] === request.state);
  const violations: FieldViolation[] = [
    ...(state === undefined ? [{ field: "state", description: "is not a state that is known" }] : []),
    ...(request.appliedRevision > MAX_REVISION ? [{ field: "applied_revision", description: "is no revision" }] : []),
    ...(request.problems.length > MAX_PROBLEMS
      ? [{ field: "problems", description: `${request.problems.length} are over ${MAX_PROBLEMS}` }]
      : []),
  ];
  if (violations.length > 0 || state === undefined) throw ServiceError.invalid(violations);
  const short = (text: string) => text.toWellFormed().replaceAll("\0", "").slice(0, MAX_TEXT);
  await reports.write({
    worker,
    modelChecksum: model,
    state,
    appliedRevision: request.appliedRevision,
    problems: JSON.stringify(
      request.problems.map(({ tenant, resource, reason, message }) => ({
        tenant: short(tenant),
        resource: short(resource),
        reason: short(reason),
        message: short(message),
      })),
    ),
  });
  return {};
}

/** Which workers are at or past a revision. Of problems, a tenant sees its own. */
export async function getDistribution(
  { db }: Distribution,
  request: GetDistributionRequest,
  { caller }: CallContext,
): Promise<MessageInitShape<typeof GetDistributionResponseSchema>> {
  const { tenant } = TENANT_NAME.parse(request.parent, "parent");
  requireTenant(caller, tenant, () => notFound(request.parent));
  if (request.modelChecksum !== "") requireModelChecksum(request.modelChecksum);
  const page = pageOf(request, tenant, request.modelChecksum);
  await requireKnownTenant(db, tenant);
  const { revision: newest } = await db.selectFrom("revision_counter").select("revision").executeTakeFirstOrThrow();
  const revision = request.revision === 0n ? newest : request.revision;
  const key = sql<string>`worker || ' ' || model_checksum`;
  const rows = await db
    .selectFrom("workers")
    .select(["worker", "model_checksum", "state", "applied_revision", "problems", "reported_at"])
    .select(sql<boolean>`coalesce(connected_until > now(), false)`.as("connected"))
    .$if(request.modelChecksum !== "", (query) => query.where("model_checksum", "=", request.modelChecksum))
    .$if(page.after !== undefined, (query) => query.where(key, ">", page.after as string))
    .orderBy(key)
    .limit(page.limit + 1)
    .execute();
  const { rows: shown, nextPageToken } = page.take(rows, (row) => `${row.worker} ${row.model_checksum}`);
  return {
    revision,
    workers: shown.map((row) => ({
      worker: row.worker,
      modelChecksum: row.model_checksum,
      state: STATES[row.state],
      appliedRevision: row.applied_revision,
      reached: row.applied_revision >= revision,
      reportTime: timestampFromDate(row.reported_at),
      connected: row.connected,
      problems: z
        .array(problem)
        .parse(row.problems)
        .filter((it) => it.tenant === tenant),
    })),
    nextPageToken,
  };
}
