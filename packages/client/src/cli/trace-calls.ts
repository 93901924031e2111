import type { Tracing } from "@persona-mesh/service";

/** Variables of OpenTelemetry that say where spans go. */
const ENDPOINTS = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] as const;

/**
 * Trace the calls of this process where OpenTelemetry's variables say where to, so that a command is the root of what it
 * caused. Without them nothing is loaded.
 *
 * @returns to be closed at the end, for at most two seconds; undefined where nothing is traced
 */
export async function traceCalls(env: Readonly<Record<string, string | undefined>>): Promise<Tracing | undefined> {
  if (ENDPOINTS.every((name) => !env[name])) return undefined;
  // Loaded here: the server's half of the package takes as long to load as all the rest.
  const { createLogger, startTracing } = await import("@persona-mesh/service");
  return startTracing({ service: "persona-cli" }, createLogger("persona", "silent"));
}
