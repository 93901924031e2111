import { status } from "@grpc/grpc-js";
import type { Attributes, Histogram, Meter } from "@opentelemetry/api";
import {
  ATTR_ERROR_TYPE,
  ATTR_RPC_METHOD,
  ATTR_RPC_STATUS_CODE,
  ATTR_RPC_SYSTEM_NAME,
  ATTR_SERVER_ADDRESS,
  ATTR_SERVER_PORT,
  METRIC_RPC_CLIENT_CALL_DURATION,
  METRIC_RPC_SERVER_CALL_DURATION,
} from "@opentelemetry/semantic-conventions";

/** What the conventions say of a call when it starts, for spans and metrics alike. */
export function startAttributes(path: string, target?: string): Attributes {
  return {
    [ATTR_RPC_SYSTEM_NAME]: "grpc",
    // Without the leading slash; by the conventions the span's name, too.
    [ATTR_RPC_METHOD]: path.slice(1),
    ...(target === undefined ? {} : serverAttributes(target)),
  };
}

/** What they say when it ends. */
export function endAttributes(code: status, side: "client" | "server"): Attributes {
  const name = status[code] ?? String(code);
  return { [ATTR_RPC_STATUS_CODE]: name, ...(isFailure(code, side) ? { [ATTR_ERROR_TYPE]: name } : {}) };
}

/** For a server, the codes that are its own fault; for a client, whatever is not OK. */
export function isFailure(code: status, side: "client" | "server"): boolean {
  return side === "client" ? code !== status.OK : SERVER_FAULTS.has(code);
}

/** How long calls took, in seconds. */
export function callDuration(meter: Meter, side: "client" | "server"): Histogram {
  const name = side === "client" ? METRIC_RPC_CLIENT_CALL_DURATION : METRIC_RPC_SERVER_CALL_DURATION;
  return meter.createHistogram(name, {
    description: side === "client" ? "Duration of outgoing calls." : "Duration of incoming calls.",
    unit: "s",
    advice: { explicitBucketBoundaries: DURATION_BUCKETS },
  });
}

const SERVER_FAULTS: ReadonlySet<status> = new Set([
  status.UNKNOWN,
  status.DEADLINE_EXCEEDED,
  status.UNIMPLEMENTED,
  status.INTERNAL,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/** Those of the conventions, and longer ones: streams of generated text take minutes. */
const DURATION_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300, 900];

function serverAttributes(target: string): Attributes {
  const [, host, port] = /^(?:dns:\/\/[^/]*\/)?(.*?)(?::(\d+))?$/.exec(target) ?? [];
  return {
    [ATTR_SERVER_ADDRESS]: host ?? target,
    ...(port === undefined ? {} : { [ATTR_SERVER_PORT]: Number(port) }),
  };
}
