import { ServiceError } from "@persona-mesh/service";
import { type RawBuilder, sql } from "kysely";

/** When a row was made, in microseconds since the epoch: a Date would lose three digits, and pages rows. */
export const MICROSECONDS: RawBuilder<string> = sql`(extract(epoch FROM created_at) * 1000000)::bigint::text`;

/** A place in a list that is ordered by time and id, newest first. */
export interface Place {
  readonly micros: string;
  readonly id: string;
}

export function placeKey({ micros, id }: Place): string {
  return `${micros}/${id}`;
}

/** The place that a page goes on after. @throws ServiceError INVALID_ARGUMENT for what no page ends with */
export function placeIn(after: string | undefined): Place | undefined {
  if (after === undefined) return undefined;
  const [, micros, id] = /^([0-9]{1,17})\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/.exec(after) ?? [];
  if (micros !== undefined && id !== undefined) return { micros, id };
  throw ServiceError.invalid([{ field: "page_token", description: "is not one that this list has given" }]);
}

/** Whether a row stands after a place. @param column - the id's */
export function isAfter({ micros, id }: Place, column: string): RawBuilder<boolean> {
  return sql<boolean>`(created_at, ${sql.ref(column)}) <
    (timestamptz 'epoch' + ${micros}::bigint * interval '1 microsecond', ${id}::uuid)`;
}
