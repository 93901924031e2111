import type { FieldMask } from "@bufbuild/protobuf/wkt";
import { type FieldViolation, ServiceError } from "@persona-mesh/service";

/** Longest reason, note or justification, in characters. */
const MAX_REASON_LENGTH = 1024;

/** What a text of a request may be. */
export interface TextRule {
  readonly max: number;
  /** @default false */
  readonly required?: boolean;
}

/** Lengths of the texts that resources have. */
export const DISPLAY_NAME: TextRule = { max: 256 };
export const DESCRIPTION: TextRule = { max: 4096 };
export const REASON: TextRule = { max: MAX_REASON_LENGTH };
export const REQUIRED_REASON: TextRule = { max: MAX_REASON_LENGTH, required: true };

/** What is wrong with a text; nothing where it is fit. NUL is what PostgreSQL cannot store. */
export function textViolations(field: string, text: string, { max, required = false }: TextRule): FieldViolation[] {
  if (required && text.trim() === "") return [{ field, description: "is needed" }];
  if ([...text].length > max) return [{ field, description: `is longer than ${max} characters` }];
  if (text.includes("\0") || !text.isWellFormed()) return [{ field, description: "has characters that no text has" }];
  return [];
}

/** @throws ServiceError INVALID_ARGUMENT naming every wrong field */
export function requireFields(...violations: readonly (readonly FieldViolation[])[]): void {
  const all = violations.flat();
  if (all.length > 0) throw ServiceError.invalid(all);
}

/**
 * The paths that an update changes.
 *
 * @param known - paths that can be changed; one that ends in `.*` stands for itself and everything below it
 * @param present - what is changed where the mask is empty: the paths that the request's resource has set
 * @throws ServiceError INVALID_ARGUMENT for a path that cannot be changed
 */
export function updatedPaths(
  mask: FieldMask | undefined,
  known: readonly string[],
  present: readonly string[],
): ReadonlySet<string> {
  const paths = mask === undefined || mask.paths.length === 0 ? present : mask.paths;
  const isKnown = (path: string) =>
    known.some(
      (it) => it === path || (it.endsWith(".*") && (path === it.slice(0, -2) || path.startsWith(it.slice(0, -1)))),
    );
  const unknown = paths.find((path) => !isKnown(path));
  if (unknown !== undefined) {
    throw ServiceError.invalid([
      {
        field: "update_mask",
        description: `"${unknown.slice(0, 64)}" cannot be changed; these can: ${known.join(", ")}`,
      },
    ]);
  }
  return new Set(paths);
}
