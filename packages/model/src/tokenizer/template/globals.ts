import { TokenizerError } from "../../errors.ts";
import type { Budget } from "./budget.ts";
import { iterate, optionalInteger, requireText } from "./methods.ts";
import { toText } from "./printing.ts";
import { Scope } from "./scope.ts";
import { strftime } from "./strftime.ts";
import { TemplateFailure } from "./template-failure.ts";
import { Callable, Float, isDict, Namespace, sequenceItems, typeName, type Value } from "./values.ts";

/** What a caller may give a template: plain data. */
export type PlainValue =
  | undefined
  | null
  | boolean
  | number
  | string
  | readonly PlainValue[]
  | { readonly [key: string]: PlainValue };

/**
 * The scope that a chat template starts in.
 *
 * @param now - what `strftime_now` reads, in UTC, so that a prompt does not depend on where the worker runs
 */
export function globalScope(variables: { readonly [name: string]: PlainValue }, now: Date, budget: Budget): Scope {
  const scope = new Scope();
  const define = (name: string, call: Callable["call"]) => scope.set(name, new Callable(name, call));
  define("range", ({ positional }) => range(positional, budget));
  define("namespace", ({ positional, named }) => {
    const entries = new Map([...pairs(positional[0], budget), ...named]);
    return new Namespace(entries);
  });
  define("dict", ({ positional, named }) => new Map<Value, Value>([...pairs(positional[0], budget), ...named]));
  define("strftime_now", (args) => strftime(now, requireText(args.bind("strftime_now", "format").format)));
  define("raise_exception", (args) => {
    const message = toText(args.bind("raise_exception", "message").message, budget);
    throw new TokenizerError("CHAT_TEMPLATE_FAILED", `the chat template refused: ${message.slice(0, 500)}`);
  });
  for (const [name, value] of Object.entries(variables)) scope.set(name, toValue(value));
  return scope;
}

function toValue(value: PlainValue): Value {
  if (typeof value === "number") return Number.isSafeInteger(value) ? value : new Float(value);
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) return value.map(toValue);
  return new Map(Object.entries(value).map(([key, item]) => [key, toValue(item)]));
}

function pairs(value: Value, budget: Budget): Map<string, Value> {
  if (value === undefined) return new Map();
  if (isDict(value)) return new Map([...value].map(([key, item]) => [requireText(key), item]));
  return new Map(
    iterate(value, budget).map((pair) => {
      const [key, item, ...more] = sequenceItems(pair) ?? [];
      if (more.length > 0) throw new TemplateFailure("an entry is a key and a value");
      return [requireText(key), item];
    }),
  );
}

/** Python's `range`, as a list. */
function range(args: readonly Value[], budget: Budget): Value {
  if (args.length === 0 || args.length > 3) throw new TemplateFailure("range takes one to three arguments");
  const numbers = args.map((argument) => {
    if (argument === undefined || argument === null) throw new TemplateFailure(`range of ${typeName(argument)}`);
    return optionalInteger(argument, 0);
  });
  const [first = 0, second, step = 1] = numbers;
  const [from, to] = second === undefined ? [0, first] : [first, second];
  if (step === 0) throw new TemplateFailure("range with step zero");
  const length = Math.max(0, Math.ceil((to - from) / step));
  budget.items(length);
  return Array.from({ length }, (_, i) => from + i * step);
}
