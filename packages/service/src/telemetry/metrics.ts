import { type Attributes, type HrTime, type Meter, ValueType } from "@opentelemetry/api";
import type { MetricData, ResourceMetrics } from "@opentelemetry/sdk-metrics";
import { ATTR_SERVICE_NAME } from "@opentelemetry/semantic-conventions";
import type { Logger } from "../log.ts";

/** A service's instruments and their figures. */
export interface Metrics {
  /**
   * Where a service registers its own instruments, named `persona.*`. Their attributes are shown to whoever reaches the
   * management port: no tenants, no text, and few values each.
   */
  readonly meter: Meter;
  /** Show series that come and go. */
  addSeries(family: SeriesFamily): void;
  /** All figures in the text format of Prometheus; those of instruments that fail are left out, with an error in the log. */
  text(): Promise<string>;
  close(): Promise<void>;
}

/**
 * One figure of things that come and go, such as versions. An instrument of the meter shows a label for ever once it has had
 * it, and after 2,000 of them no new one; here a label is shown for as long as it is read.
 */
export interface SeriesFamily {
  /** As of an instrument: `persona.…`. */
  readonly name: string;
  readonly description: string;
  /** A counter starts again from 0 when its label has been away. */
  readonly kind: "counter" | "gauge";
  /** Bounded by whoever reads: everything that is given is shown. */
  read(): Iterable<{ readonly value: number; readonly attributes: Attributes }>;
}

/**
 * Figures of a service, kept until somebody asks. A service that has instruments of its own makes this first and hands it
 * to {@link startServer}; otherwise the server makes one for itself.
 */
export async function createMetrics(service: string, log: Logger): Promise<Metrics> {
  // Slow to load, and command lines that import this package measure nothing.
  const [sdk, { PrometheusSerializer }, { resourceFromAttributes }] = await Promise.all([
    import("@opentelemetry/sdk-metrics"),
    import("@opentelemetry/exporter-prometheus"),
    import("@opentelemetry/resources"),
  ]);
  const { AggregationTemporality, DataPointType, MeterProvider, MetricReader } = sdk;
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
  const scope = "persona-mesh";
  const families: SeriesFamily[] = [];
  const read = ({ name, description, kind, read }: SeriesFamily): MetricData => {
    // The text format has no times.
    const time: HrTime = [0, 0];
    return {
      descriptor: { name, description, unit: "", valueType: ValueType.DOUBLE },
      aggregationTemporality: AggregationTemporality.CUMULATIVE,
      dataPoints: [...read()].map((point) => ({ ...point, startTime: time, endTime: time })),
      ...(kind === "gauge"
        ? { dataPointType: DataPointType.GAUGE }
        : { dataPointType: DataPointType.SUM, isMonotonic: true }),
    };
  };
  return {
    meter: provider.getMeter(scope),
    addSeries: (family) => families.push(family),
    text: async () => {
      const { resourceMetrics, errors } = await reader.collect();
      const series = families.flatMap((family) => {
        try {
          return read(family);
        } catch (error) {
          errors.push(error);
          return [];
        }
      });
      for (const error of errors) log.error({ err: error }, "an instrument has no figure");
      const scopeMetrics = [...resourceMetrics.scopeMetrics, { scope: { name: scope }, metrics: series }];
      return serializer.serialize(withUnitsInNames({ ...resourceMetrics, scopeMetrics }));
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
