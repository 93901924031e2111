import type { Metadata, status } from "@grpc/grpc-js";
import {
  type Attributes,
  type Context,
  context,
  type HrTime,
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
  /** A child span of something that is over. */
  record(part: CallPart): void;
  end(code: status, attributes?: Attributes): void;
}

/** Something that a call went through, told when it is over: no clock of OpenTelemetry runs while it happens. */
export interface CallPart {
  /** What it is, one of a few: "queue", "prefill". */
  readonly name: string;
  /** In the clock of `performance.now()`, milliseconds. */
  readonly start: number;
  /** Not before `start`. */
  readonly end: number;
  /** Never text of prompts and replies. */
  readonly attributes?: Attributes;
  readonly events?: readonly CallEvent[];
  /** It is why the call has failed. */
  readonly failed?: boolean;
}

/** A moment within a {@link CallPart}. */
export interface CallEvent {
  readonly name: string;
  /** In the clock of `performance.now()`, milliseconds. */
  readonly at: number;
  readonly attributes?: Attributes;
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

/**
 * The span of an outgoing call, as a child of what runs now; it goes along in the metadata. A process that traces itself, with
 * OpenTelemetry of its own and not with ours, sends its own span along.
 */
export function startClientSpan(path: string, target: string, metadata: Metadata): CallSpan | undefined {
  if (tracer === undefined) {
    propagation.inject(context.active(), metadata, SETTER);
    return undefined;
  }
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
  const clock = wallClock();
  const now = () => clock(performance.now());
  const span = by.startSpan(path.slice(1), { kind, attributes, startTime: now() }, parent);
  const active = trace.setSpan(parent, span);
  const { traceId, spanId } = span.spanContext();
  return {
    ids: { trace_id: traceId, span_id: spanId },
    run: (something) => context.with(active, something),
    record: ({ name, start, end, attributes = {}, events = [], failed = false }) => {
      const part = by.startSpan(name, { attributes, startTime: clock(start) }, active);
      for (const event of events) part.addEvent(event.name, event.attributes ?? {}, clock(event.at));
      if (failed) part.setStatus({ code: SpanStatusCode.ERROR });
      part.end(clock(end));
    },
    end: (code, more = {}) => {
      span.setAttributes({ ...endAttributes(code, side), ...more });
      // Without a message: what a status says is for the caller.
      if (isFailure(code, side)) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end(now());
    },
  };
}

/** Further apart than this, the clock on the wall was set since the process began. Milliseconds. */
const MAX_CLOCK_DRIFT = 10;

/**
 * What the clock on the wall shows at a moment of `performance.now()`. One for all times of a call: whatever happens to the
 * wall's clock meanwhile, its parts lie within it.
 */
function wallClock(): (moment: number) => HrTime {
  const { timeOrigin } = performance;
  const drift = Date.now() - (timeOrigin + performance.now());
  const origin = Math.abs(drift) > MAX_CLOCK_DRIFT ? timeOrigin + drift : timeOrigin;
  return (moment) => {
    const millis = origin + moment;
    const seconds = Math.floor(millis / 1000);
    return [seconds, Math.round((millis - seconds * 1000) * 1e6)];
  };
}

const GETTER: TextMapGetter<Metadata> = {
  keys: (metadata) => Object.keys(metadata.getMap()),
  get: (metadata, key) => metadata.get(key).filter((value) => typeof value === "string"),
};

const SETTER: TextMapSetter<Metadata> = { set: (metadata, key, value) => metadata.set(key, value) };
