import type { Meter } from "@opentelemetry/api";
import type { ResourceMetrics } from "@opentelemetry/sdk-metrics";
import { ATTR_SERVICE_NAME } from "@opentelemetry/semantic-conventions";
import type { Logger } from "../log.ts";

/** A service's instruments and their figures. */
export interface Metrics {
  /**
   * Where a service registers its own instruments, named `persona.*`. Their attributes are shown to whoever reaches the
   * management port: no tenants, no text, and few values each.
   */
  readonly meter: Meter;
  /** All figures in the text format of Prometheus; those of instruments that fail are left out, with an error in the log. */
  text(): Promise<string>;
  close(): Promise<void>;
}

/**
 * Figures of a service, kept until somebody asks. A service that has instruments of its own makes this first and hands it
 * to {@link startServer}; otherwise the server makes one for itself.
 */
export async function createMetrics(service: string, log: Logger): Promise<Metrics> {
  // Slow to load, and command lines that import this package measure nothing.
  const [{ MeterProvider, MetricReader }, { PrometheusSerializer }, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/sdk-metrics"),
    import("@opentelemetry/exporter-prometheus"),
    import("@opentelemetry/resources"),
  ]);
  class Reader extends MetricReader {
    protected override async onForceFlush(): Promise<void> {}
    protected override async onShutdown(): Promise<void> {}
  }
  const reader = new Reader();
  const provider = new MeterProvider({
    resource: resourceFromAttributes({ [ATTR_SERVICE_NAME]: service }),
    readers: [reader],
  });
  // Without the scope as a label: there is one.
  const serializer = new PrometheusSerializer("", false, undefined, false, true);
  return {
    meter: provider.getMeter("persona-mesh"),
    text: async () => {
      const { resourceMetrics, errors } = await reader.collect();
      for (const error of errors) log.error({ err: error }, "an instrument has no figure");
      return serializer.serialize(withUnitsInNames(resourceMetrics));
    },
    close: () => provider.shutdown(),
  };
}

/** Prometheus has units in names (`rpc_server_call_duration_seconds`); the serializer leaves that to others. */
function withUnitsInNames(given: ResourceMetrics): ResourceMetrics {
  return {
    ...given,
    scopeMetrics: given.scopeMetrics.map((scope) => ({
      ...scope,
      metrics: scope.metrics.map((metric) => {
        const { name, unit } = metric.descriptor;
        const suffix = UNIT_NAMES[unit];
        return {
          ...metric,
          descriptor: { ...metric.descriptor, name: suffix === undefined ? name : `${name}_${suffix}`, unit: "" },
        };
      }),
    })),
  };
}

/** The units that we use, by the Unified Code for Units of Measure; counts of things, `{call}`, have none in their name. */
const UNIT_NAMES: Readonly<Record<string, string>> = { s: "seconds", ms: "milliseconds", By: "bytes" };
