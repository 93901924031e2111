import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ServingQuotas, ServingQuotasSchema } from "@persona-mesh/protocol/registry";
import type { Selectable, Updateable } from "kysely";
import type { TenantsTable } from "../database/schema.ts";
import { type Wrong, whole } from "./field-values.ts";

type Row = Pick<Selectable<TenantsTable>, Extract<keyof TenantsTable, `serving_${string}`>>;

/** Paths of what a tenant may take of a worker that can be written. */
export const SERVING_PATHS = [
  "quotas.serving.weight",
  "quotas.serving.max_running",
  "quotas.serving.max_waiting",
  "quotas.serving.tokens_per_minute",
] as const;

type ServingPath = (typeof SERVING_PATHS)[number];

const DEFAULT_WEIGHT = 100;
const MAX_WEIGHT = 1000;
/** As the columns' type holds. */
const MAX_INT = 2 ** 31 - 1;

/** Paths that are set. */
export function presentInServing(serving: ServingQuotas | undefined): ServingPath[] {
  if (serving === undefined) return [];
  const isSet: Readonly<Record<ServingPath, boolean>> = {
    "quotas.serving.weight": serving.weight !== 0,
    "quotas.serving.max_running": serving.maxRunning !== 0,
    "quotas.serving.max_waiting": serving.maxWaiting !== 0,
    "quotas.serving.tokens_per_minute": serving.tokensPerMinute !== 0,
  };
  return SERVING_PATHS.filter((path) => isSet[path]);
}

/** The column behind a path; an unset field gives the default: for all but the weight no limit of the tenant's own. */
export function servingColumn(
  serving: ServingQuotas | undefined,
  path: ServingPath,
  wrong: Wrong,
): Updateable<TenantsTable> {
  const field = `tenant.${path}`;
  const limit = (value: number | undefined) => (value ? whole(value, [1, MAX_INT], field, wrong) : null);
  switch (path) {
    case "quotas.serving.weight":
      return { serving_weight: whole(serving?.weight || DEFAULT_WEIGHT, [1, MAX_WEIGHT], field, wrong) };
    case "quotas.serving.max_running":
      return { serving_max_running: limit(serving?.maxRunning) };
    case "quotas.serving.max_waiting":
      return { serving_max_waiting: limit(serving?.maxWaiting) };
    case "quotas.serving.tokens_per_minute":
      return { serving_tokens_per_minute: limit(serving?.tokensPerMinute) };
  }
}

/** What callers and workers see; 0 for no limit of the tenant's own. */
export function servingMessage(row: Row): MessageInitShape<typeof ServingQuotasSchema> {
  return {
    weight: row.serving_weight,
    maxRunning: row.serving_max_running ?? 0,
    maxWaiting: row.serving_max_waiting ?? 0,
    tokensPerMinute: row.serving_tokens_per_minute ?? 0,
  };
}

/** What the audit says; null for no limit of the tenant's own. */
export function auditedServing(row: Row) {
  return {
    weight: row.serving_weight,
    maxRunning: row.serving_max_running,
    maxWaiting: row.serving_max_waiting,
    tokensPerMinute: row.serving_tokens_per_minute,
  };
}
