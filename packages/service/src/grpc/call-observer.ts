import { type Metadata, status } from "@grpc/grpc-js";
import type { Meter } from "@opentelemetry/api";
import type { ClientError } from "../errors/client-error.ts";
import { startClientSpan } from "../telemetry/call-spans.ts";
import { callDuration, endAttributes, startAttributes } from "../telemetry/rpc-conventions.ts";

/**
 * Trace and measure a client's call, from here until the result is called with its error or with none. The call's metadata
 * gets the trace that it is a part of.
 */
export type CallObserver = (path: string, metadata: Metadata) => (error?: ClientError) => void;

/** @param meter - where calls are measured; undefined does not measure them */
export function createCallObserver(address: string, meter: Meter | undefined): CallObserver {
  const duration = meter === undefined ? undefined : callDuration(meter, "client");
  return (path, metadata) => {
    const span = startClientSpan(path, address, metadata);
    const started = performance.now();
    return (error) => {
      const code = error?.code ?? status.OK;
      span?.end(code, error === undefined ? {} : { "persona.reason": error.reason });
      duration?.record((performance.now() - started) / 1000, {
        ...startAttributes(path, address),
        ...endAttributes(code, "client"),
      });
    };
  };
}
