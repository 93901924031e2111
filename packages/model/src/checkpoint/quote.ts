/** Longest name in a message: a hostile file may hold names of megabytes. */
const MAX_QUOTED = 120;

/** A name from a file that is not trusted, for a message: bounded, and without control characters. */
export function quote(name: string): string {
  return JSON.stringify(name.length > MAX_QUOTED ? `${name.slice(0, MAX_QUOTED)}…` : name);
}
