import type { FieldViolation } from "@persona-mesh/service";

/** Collects what is wrong with a request, so that its caller hears of all of it at once. */
export type Wrong = (violation: FieldViolation) => void;

/** A field's number, reported where it is outside of its bounds, both of which are allowed. */
export function whole(value: number, [least, most]: readonly [number, number], field: string, wrong: Wrong): number {
  if (value < least || value > most) wrong({ field, description: `${value} is not from ${least} to ${most}` });
  return value;
}

/** A field's word, reported where it is none of its enumeration's: a newer client may know more. */
export function word<T extends number>(
  value: number,
  { known, what }: { readonly known: Readonly<Record<string, T>>; readonly what: string },
  field: string,
  wrong: Wrong,
): void {
  if (!(Object.values(known) as number[]).includes(value)) {
    wrong({ field, description: `${value} is not a ${what} that is known` });
  }
}

export function isOneOf<T extends string>(paths: readonly T[], path: string): path is T {
  return (paths as readonly string[]).includes(path);
}
