import { TokenizerError } from "../errors.ts";
import {
  createScope,
  LibraryInterpreter,
  type TemplateNode,
  type TemplateScope,
  type TemplateValue,
} from "./jinja-library.ts";

/** Expressions and statements one rendering may evaluate; real templates take about 50 for each message. */
const MAX_STEPS = 1_000_000;

/** Longest text a template may hold or write. */
const MAX_CHARACTERS = 4 * 1024 * 1024;

/** Characters of all intermediate texts together: each message may pass through a few dozen expressions. */
const MAX_TOTAL_CHARACTERS = 256 * 1024 * 1024;

/** Longest list, `range` included. */
const MAX_ITEMS = 100_000;

/**
 * Jinja with a budget. A template comes with a checkpoint, so it is a program from a stranger: it may loop, recurse and
 * double its text, but only so far.
 */
export class BoundedInterpreter extends LibraryInterpreter {
  #steps = 0;
  #characters = 0;

  /** @throws TokenizerError CHAT_TEMPLATE_LIMIT when the template goes beyond its budget */
  override evaluate(statement: TemplateNode | undefined, scope: TemplateScope): TemplateValue {
    if (++this.#steps > MAX_STEPS) throw overLimit(`evaluates more than ${MAX_STEPS} expressions`);
    const result = super.evaluate(statement, scope);
    const { value } = result;
    if (typeof value === "string") {
      this.#characters += value.length;
      if (value.length > MAX_CHARACTERS) throw overLimit(`makes a text of more than ${MAX_CHARACTERS} characters`);
      if (this.#characters > MAX_TOTAL_CHARACTERS) throw overLimit("makes too much text");
    } else if (Array.isArray(value) && value.length > MAX_ITEMS) {
      throw overLimit(`makes a list of more than ${MAX_ITEMS} items`);
    }
    return result;
  }
}

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
  return format.replace(/%(.)/gsu, (text, directive: string) => directives[directive] ?? text);
}

function overLimit(what: string): TokenizerError {
  return new TokenizerError("CHAT_TEMPLATE_LIMIT", `the chat template ${what}`);
}
