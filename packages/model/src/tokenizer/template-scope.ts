import { TokenizerError } from "../errors.ts";
import { MAX_ITEMS, overLimit } from "./bounded-interpreter.ts";
import { createScope, type TemplateScope } from "./jinja-library.ts";

/**
 * The globals a chat template may use, with `variables` beside them.
 *
 * @param now - what `strftime_now` reads, in UTC, so that a prompt does not depend on where the worker runs
 */
export function templateScope(variables: Readonly<Record<string, unknown>>, now: Date): TemplateScope {
  const scope = createScope();
  const globals: Record<string, unknown> = {
    true: true,
    True: true,
    false: false,
    False: false,
    none: null,
    None: null,
    range: boundedRange,
    strftime_now: (format: unknown) => strftime(now, String(format)),
    raise_exception: (message: unknown) => {
      throw new TokenizerError("CHAT_TEMPLATE_FAILED", `the chat template refused: ${String(message).slice(0, 500)}`);
    },
  };
  for (const [name, value] of Object.entries({ ...globals, ...variables })) scope.set(name, value);
  return scope;
}

/** Python's `range`. */
function boundedRange(start: number, stop?: number, step = 1): number[] {
  const [from, to] = typeof stop === "number" ? [start, stop] : [0, start];
  const length = Math.ceil((to - from) / step);
  if (!Number.isFinite(length)) throw new Error("range() takes finite numbers and a step other than zero");
  if (length > MAX_ITEMS) throw overLimit(`makes a range of more than ${MAX_ITEMS} items`);
  return Array.from({ length: Math.max(0, length) }, (_, i) => from + i * step);
}

const MONTHS = "January February March April May June July August September October November December".split(" ");
const DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday".split(" ");

/** The directives of Python's strftime that chat templates use. */
function strftime(date: Date, format: string): string {
  const two = (value: number) => String(value).padStart(2, "0");
  const month = MONTHS[date.getUTCMonth()] as string;
  const day = DAYS[date.getUTCDay()] as string;
  const directives: Record<string, string> = {
    Y: String(date.getUTCFullYear()),
    m: two(date.getUTCMonth() + 1),
    d: two(date.getUTCDate()),
    B: month,
    b: month.slice(0, 3),
    A: day,
    a: day.slice(0, 3),
    H: two(date.getUTCHours()),
    M: two(date.getUTCMinutes()),
    S: two(date.getUTCSeconds()),
    "%": "%",
  };
  return format.replace(/%(.)/gsu, (text, directive: string) =>
    Object.hasOwn(directives, directive) ? (directives[directive] as string) : text,
  );
}
