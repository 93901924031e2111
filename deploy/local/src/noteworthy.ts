const ALWAYS = new Set(["warn", "error", "fatal"]);

/**
 * A line of a service's log as a person reads it; undefined for one that nobody needs to see.
 *
 * @param verbose - show every line
 */
export function noteworthy(service: string, line: string, verbose: boolean): string | undefined {
  let entry: Record<string, unknown>;
  try {
    entry = JSON.parse(line) as Record<string, unknown>;
  } catch {
    return `${service}: ${line}`;
  }
  const { level, msg, err, reason, name: _, time: __, pid: ___, hostname: ____, ...fields } = entry;
  if (!verbose && !ALWAYS.has(String(level))) return undefined;
  const cause = typeof err === "object" && err !== null && "message" in err ? `: ${String(err.message)}` : "";
  const why = typeof reason === "string" ? ` [${reason}]` : "";
  const details = verbose && Object.keys(fields).length > 0 ? ` ${JSON.stringify(fields)}` : "";
  return `${service} ${String(level)}${why} ${String(msg)}${cause}${details}`;
}
