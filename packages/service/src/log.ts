import { type DestinationStream, pino, stdSerializers } from "pino";

/** What a service writes logs with: a pino logger. */
export type Logger = Pick<
  import("pino").Logger<never, boolean>,
  "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "child" | "flush"
>;

/** Fields of a log line. Text of prompts and replies has no place here; {@link scrub} removes it if it gets in. */
export type LogFields = Readonly<Record<string, unknown>>;

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** JSON lines on standard output (or the given destination), each with the name of the service and the time. */
export function createLogger(name: string, level: LogLevel, destination?: DestinationStream): Logger {
  const options = {
    name,
    level,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: Record<string, unknown>) => scrub(fields) as Record<string, unknown>,
    },
    serializers: { err: (error: unknown) => (error instanceof Error ? stdSerializers.err(error) : error) },
  };
  const logger = pino(options, destination ?? standardOutput());
  // pino formats the fields of each line but not those that a child carries; children inherit this function.
  const { child } = logger;
  logger.child = function scrubbedChild(this: typeof logger, bindings: object, childOptions?: never) {
    return child.call(this, scrub(bindings) as never, childOptions);
  } as never;
  return logger;
}

/**
 * Lines go out as they come: none waits for the end of the process. Not pino's own destination, whose last flush tries again for ever
 * where the reader has gone.
 */
function standardOutput(): DestinationStream {
  // Whoever read the log is gone: that costs the lines, not the service.
  if (!process.stdout.listeners("error").includes(ignore)) process.stdout.on("error", ignore);
  return { write: (line) => void process.stdout.write(line) };
}

function ignore(): void {}

/**
 * What may be logged of a value. Log calls pass numbers, ids and names; this is for the day when one passes more:
 * protobuf messages become their type name, keys that hold credentials or text lose their value, long strings are cut
 * out whole, and depth is bounded.
 */
export function scrub(value: unknown, depth = 0): unknown {
  switch (typeof value) {
    case "string":
      return value.length <= MAX_STRING ? value : `[${value.length} characters]`;
    case "bigint":
      return value.toString();
    case "function":
    case "symbol":
      return undefined;
    case "object":
      break;
    default:
      return value;
  }
  // Errors keep their message and stack; pino's serializer writes them.
  if (value === null || value instanceof Error || value instanceof Date) return value;
  if (ArrayBuffer.isView(value)) return `[${value.byteLength} bytes]`;
  if ("$typeName" in value) return `[message ${String(value.$typeName)}]`;
  if (depth >= MAX_DEPTH) return "[nested]";
  if (Array.isArray(value)) {
    const shown = value.slice(0, MAX_ITEMS).map((item) => scrub(item, depth + 1));
    return value.length > MAX_ITEMS ? [...shown, `[${value.length - MAX_ITEMS} more]`] : shown;
  }
  const entries = value instanceof Map ? [...value.entries()] : Object.entries(value);
  return Object.fromEntries(
    entries.slice(0, MAX_ITEMS).map(([key, item]) => [key, scrubEntry(String(key), item, depth)]),
  );
}

function scrubEntry(key: string, item: unknown, depth: number): unknown {
  if (SECRET_KEYS.test(key)) return "[secret]";
  if (TEXT_KEYS.test(key) && typeof item !== "number") {
    return typeof item === "string" ? `[text, ${item.length} characters]` : "[text]";
  }
  return scrub(item, depth + 1);
}

/** Longer than any id, path or digest that we log, shorter than a prompt worth stealing. */
const MAX_STRING = 256;
const MAX_ITEMS = 64;
const MAX_DEPTH = 4;

const SECRET_KEYS = /^(authorization|cookie|password|secret|token|jwt|private_?key|d)$/i;
const TEXT_KEYS = /^(text|prompt|prompts|reply|content|messages|completion|continuations?|stop|response)$/i;
