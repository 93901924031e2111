import type { FieldViolation } from "@persona-mesh/service";

/** Nothing for a number within the bounds, both included. NaN is in no range. */
export function range(field: string, value: number, least: number, most: number): FieldViolation[] {
  if (value >= least && value <= most) return [];
  const limits = Number.isFinite(most) ? `from ${least} to ${most}` : `at least ${least}`;
  return [{ field, description: `${value} is not ${limits}` }];
}
