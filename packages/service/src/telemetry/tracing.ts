import { context, DiagLogLevel, diag, propagation, trace } from "@opentelemetry/api";
import { ATTR_SERVICE_NAME } from "@opentelemetry/semantic-conventions";
import type { Logger } from "../log.ts";
import { setCallTracer } from "./call-spans.ts";

export interface TracingOptions {
  /** `service.name` of the spans. */
  readonly service: string;
  /**
   * Where spans go, OTLP over HTTP: `http://collector:4318`. Without it, the variables of OpenTelemetry are looked at
   * (`OTEL_EXPORTER_OTLP_ENDPOINT` and its relatives); they also give headers and certificates.
   */
  readonly endpoint?: string | undefined;
  /** Share of traces that are recorded where nobody decided before, 0 to 1. @default 1 */
  readonly sampleRatio?: number;
  /** How long spans are gathered before they are sent. @default 2 s */
  readonly exportIntervalMs?: number;
}

export interface Tracing {
  /** Send what is left, for at most two seconds, and stop. */
  close(): Promise<void>;
}

/**
 * Trace this process: one span per call on either side, joined through the metadata of calls as W3C Trace Context says.
 * Once per process.
 *
 * @returns undefined, and nothing is traced, where no endpoint is given
 */
export async function startTracing(options: TracingOptions, log: Logger): Promise<Tracing | undefined> {
  const { endpoint, service, sampleRatio = 1, exportIntervalMs = EXPORT_INTERVAL_MS } = options;
  if (!isWanted(endpoint)) return undefined;
  // Slow to load, and most processes trace nothing.
  const [sdk, { OTLPTraceExporter }, { resourceFromAttributes }, { AsyncLocalStorageContextManager }, core] =
    await Promise.all([
      import("@opentelemetry/sdk-trace"),
      import("@opentelemetry/exporter-trace-otlp-proto"),
      import("@opentelemetry/resources"),
      import("@opentelemetry/context-async-hooks"),
      import("@opentelemetry/core"),
    ]);
  forwardDiagnostics(log);
  const exporter = new OTLPTraceExporter(endpoint === undefined ? {} : { url: tracesUrl(endpoint) });
  const provider = new sdk.TracerProvider({
    resource: resourceFromAttributes({ [ATTR_SERVICE_NAME]: service }),
    sampler: new sdk.ParentBasedSampler({ root: new sdk.TraceIdRatioBasedSampler(sampleRatio) }),
    // Its queue is bounded: spans that the collector does not take are dropped, calls never wait.
    spanProcessors: [new sdk.BatchSpanProcessor({ exporter, scheduledDelayMillis: exportIntervalMs })],
  });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new core.W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  setCallTracer(provider.getTracer("persona-mesh"));
  log.info({ endpoint }, "tracing");
  return {
    close: async () => {
      setCallTracer(undefined);
      await Promise.race([
        provider.shutdown().catch((error: unknown) => log.warn({ err: error }, "the last spans were not sent")),
        new Promise((resolve) => setTimeout(resolve, CLOSE_TIMEOUT_MS).unref()),
      ]);
      trace.disable();
      propagation.disable();
      context.disable();
    },
  };
}

const EXPORT_INTERVAL_MS = 2_000;

/** A collector that is away must not hold up the end of a process. */
const CLOSE_TIMEOUT_MS = 2_000;

function isWanted(endpoint: string | undefined): boolean {
  const { OTEL_SDK_DISABLED, OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT } = process.env;
  if (OTEL_SDK_DISABLED?.toLowerCase() === "true") return false;
  return Boolean(endpoint ?? OTEL_EXPORTER_OTLP_ENDPOINT ?? OTEL_EXPORTER_OTLP_TRACES_ENDPOINT);
}

function tracesUrl(endpoint: string): string {
  return `${endpoint.replace(/\/+$/, "")}/v1/traces`;
}

/** What OpenTelemetry has to say about itself, such as a collector that does not answer. */
function forwardDiagnostics(log: Logger): void {
  const forward = (level: "debug" | "warn") => (message: string) => log[level]({ from: "opentelemetry" }, message);
  const [debug, warn] = [forward("debug"), forward("warn")];
  diag.setLogger(
    { error: warn, warn, info: debug, debug, verbose: () => {} },
    { logLevel: DiagLogLevel.INFO, suppressOverrideMessage: true },
  );
}
