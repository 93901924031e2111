import type { Metadata, status } from "@grpc/grpc-js";
import {
  type Attributes,
  type Context,
  context,
  propagation,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  type TextMapSetter,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { endAttributes, isFailure, startAttributes } from "./rpc-conventions.ts";

/** The span of one call, on either side. It never holds a message or a part of one. */
export interface CallSpan {
  /** As log lines name them. */
  readonly ids: { readonly trace_id: string; readonly span_id: string };
  /** Run something as a part of this call: the calls that it makes become children. */
  run<Result>(something: () => Result): Result;
  end(code: status, attributes?: Attributes): void;
}

let tracer: Tracer | undefined;

/** Spans are made with this from now on; undefined makes none, which costs nothing. */
export function setCallTracer(next: Tracer | undefined): void {
  tracer = next;
}

/** The span of an incoming call, as a child of the client's where it sent one. */
export function startServerSpan(path: string, metadata: Metadata): CallSpan | undefined {
  if (tracer === undefined) return undefined;
  const parent = propagation.extract(ROOT_CONTEXT, metadata, GETTER);
  return startSpan(tracer, path, "server", parent, startAttributes(path));
}

/** The span of an outgoing call, as a child of what runs now; it goes along in the metadata. */
export function startClientSpan(path: string, target: string, metadata: Metadata): CallSpan | undefined {
  if (tracer === undefined) return undefined;
  const span = startSpan(tracer, path, "client", context.active(), startAttributes(path, target));
  span.run(() => propagation.inject(context.active(), metadata, SETTER));
  return span;
}

function startSpan(
  by: Tracer,
  path: string,
  side: "client" | "server",
  parent: Context,
  attributes: Attributes,
): CallSpan {
  const kind = side === "client" ? SpanKind.CLIENT : SpanKind.SERVER;
  const span = by.startSpan(path.slice(1), { kind, attributes }, parent);
  const active = trace.setSpan(parent, span);
  const { traceId, spanId } = span.spanContext();
  return {
    ids: { trace_id: traceId, span_id: spanId },
    run: (something) => context.with(active, something),
    end: (code, more = {}) => {
      span.setAttributes({ ...endAttributes(code, side), ...more });
      // Without a message: what a status says is for the caller.
      if (isFailure(code, side)) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
    },
  };
}

const GETTER: TextMapGetter<Metadata> = {
  keys: (metadata) => Object.keys(metadata.getMap()),
  get: (metadata, key) => metadata.get(key).filter((value) => typeof value === "string"),
};

const SETTER: TextMapSetter<Metadata> = { set: (metadata, key, value) => metadata.set(key, value) };
