/** Longest text of a value in a message: a hostile file may hold names of megabytes. */
const MAX_QUOTED = 160;

/** A value from a file that is not trusted, for a message: as JSON, so without control characters, and bounded. */
export function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text;
}
