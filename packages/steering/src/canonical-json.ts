/** What canonical JSON can say. */
export type JsonValue =
  | null
  | boolean
  | number
  | string
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue | undefined };

/**
 * The one spelling of a value that digests are taken over: no spaces, keys sorted by UTF-16 code unit, undefined members
 * left out, numbers and strings as JSON.stringify writes them (RFC 8785).
 *
 * @throws TypeError for NaN, infinities and −0, which JSON cannot say or does not tell apart
 */
export function canonicalJson(value: JsonValue): string {
  if (typeof value === "number" && (!Number.isFinite(value) || Object.is(value, -0))) {
    throw new TypeError(`${Object.is(value, -0) ? "-0" : value} has no canonical JSON`);
  }
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  const members = Object.entries(value as { readonly [key: string]: JsonValue | undefined })
    .filter((entry): entry is [string, JsonValue] => entry[1] !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`).join(",")}}`;
}
