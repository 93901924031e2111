import { capitalize, capitalizeWords, strip } from "../python-text.ts";
import type { Budget } from "./budget.ts";
import { toJson } from "./json-text.ts";
import { iterate, joinTexts, optionalInteger, replaceText, requireText } from "./methods.ts";
import { binary, compare } from "./operators.ts";
import { toText } from "./printing.ts";
import { TemplateFailure } from "./template-failure.ts";
import { runTest } from "./tests.ts";
import {
  Arguments,
  Float,
  isDict,
  isTrue,
  Namespace,
  numberOf,
  sequenceItems,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

type FilterFunction = (value: Value, args: Arguments, budget: Budget) => Value;

/** Jinja's filters, those that chat templates use. */
const FILTERS: Readonly<Record<string, FilterFunction>> = {
  abs: (value) => (value instanceof Float ? new Float(Math.abs(value.value)) : Math.abs(requireNumber(value))),
  capitalize: (value, _, budget) => budget.text(capitalize(toText(value, budget))),
  count: length,
  d: otherwise,
  default: otherwise,
  dictsort: (value, args, budget) => {
    const { by, reverse } = args.bind("dictsort", "case_sensitive", "by", "reverse");
    if (!isDict(value)) throw new TemplateFailure(`dictsort of ${typeName(value)}`);
    const at = by === "value" ? 1 : 0;
    const entries = [...value].map((entry) => new Tuple(entry));
    return sorted(entries, (entry) => caseless((entry as Tuple).items[at]), isTrue(reverse), budget);
  },
  e: (value, _, budget) => escapeHtml(toText(value, budget), budget),
  escape: (value, _, budget) => escapeHtml(toText(value, budget), budget),
  first: (value, _, budget) => iterate(value, budget)[0],
  float: (value, args) => {
    const { default: fallback } = args.bind("float", "default");
    const number = typeof value === "string" ? parseFloatText(value) : numberOf(value);
    return number === undefined ? (fallback ?? new Float(0)) : new Float(number);
  },
  indent: (value, args, budget) => indent(toText(value, budget), args, budget),
  int: (value, args) => {
    const { default: fallback } = args.bind("int", "default");
    const number = typeof value === "string" ? parseFloatText(value) : numberOf(value);
    return number === undefined || !Number.isFinite(number) ? (fallback ?? 0) : Math.trunc(number);
  },
  items: (value, _, budget) => {
    if (value === undefined) return [];
    if (!isDict(value)) throw new TemplateFailure(`items of ${typeName(value)}`);
    budget.items(value.size);
    return [...value].map((entry) => new Tuple(entry));
  },
  join: (value, args, budget) => {
    const { d, attribute } = args.bind("join", "d", "attribute");
    const items = iterate(value, budget).map((item) => attributeOf(item, attribute));
    return joinTexts(
      items.map((item) => toText(item, budget)),
      toText(d, budget),
      budget,
    );
  },
  last: (value, _, budget) => iterate(value, budget).at(-1),
  length,
  list: (value, _, budget) => [...iterate(value, budget)],
  lower: (value, _, budget) => budget.text(toText(value, budget).toLowerCase()),
  map: (value, args, budget) => {
    const [filter, ...rest] = args.positional;
    const items = iterate(value, budget);
    budget.items(items.length);
    if (typeof filter !== "string") {
      const { attribute, default: fallback } = args.bind("map", "attribute", "default");
      if (attribute === undefined) throw new TemplateFailure("map needs a filter or an attribute");
      return items.map((item) => attributeOf(item, attribute) ?? fallback);
    }
    const inner = new Arguments(rest, args.named);
    return items.map((item) => applyFilter(filter, item, inner, budget));
  },
  max: (value, _, budget) => extreme(value, 1, budget),
  min: (value, _, budget) => extreme(value, -1, budget),
  reject: (value, args, budget) => select(value, args, false, false, budget),
  rejectattr: (value, args, budget) => select(value, args, true, false, budget),
  replace: (value, args, budget) => {
    const { old, new: by, count } = args.bind("replace", "old", "new", "count");
    const text = toText(value, budget);
    return replaceText(text, toText(old, budget), toText(by, budget), optionalInteger(count, -1), budget);
  },
  reverse: (value, _, budget) => {
    const items = [...iterate(value, budget)].reverse();
    return typeof value === "string" ? items.join("") : items;
  },
  safe: (value, _, budget) => toText(value, budget),
  select: (value, args, budget) => select(value, args, false, true, budget),
  selectattr: (value, args, budget) => select(value, args, true, true, budget),
  sort: (value, args, budget) => {
    const { reverse, case_sensitive, attribute } = args.bind("sort", "reverse", "case_sensitive", "attribute");
    const key = (item: Value) => {
      const found = attributeOf(item, attribute);
      return isTrue(case_sensitive) ? found : caseless(found);
    };
    return sorted(iterate(value, budget), key, isTrue(reverse), budget);
  },
  string: (value, _, budget) => toText(value, budget),
  sum: (value, args, budget) => {
    const { attribute, start } = args.bind("sum", "attribute", "start");
    return iterate(value, budget).reduce(
      (sum, item) => binary("+", sum, attributeOf(item, attribute), budget),
      start ?? 0,
    );
  },
  title: (value, _, budget) => budget.text(capitalizeWords(toText(value, budget))),
  tojson: (value, args, budget) => {
    const bound = args.bind("tojson", "ensure_ascii", "indent", "separators", "sort_keys");
    const isIndented = bound.indent !== undefined && bound.indent !== null;
    const separators = bound.separators == null ? undefined : sequenceItems(bound.separators)?.map(requireText);
    const [itemSeparator = isIndented ? "," : ", ", keySeparator = ": "] = separators ?? [];
    return toJson(
      value,
      {
        indent: isIndented ? indentation(bound.indent, budget) : undefined,
        isAscii: isTrue(bound.ensure_ascii),
        itemSeparator,
        keySeparator,
        sortsKeys: isTrue(bound.sort_keys),
      },
      budget,
    );
  },
  trim: (value, args, budget) => {
    const { chars } = args.bind("trim", "chars");
    return strip(toText(value, budget), "both", chars == null ? undefined : requireText(chars));
  },
  unique: (value, args, budget) => {
    const { case_sensitive, attribute } = args.bind("unique", "case_sensitive", "attribute");
    const seen = new Set<Value>();
    return iterate(value, budget).filter((item) => {
      const found = attributeOf(item, attribute);
      const key = isTrue(case_sensitive) ? found : caseless(found);
      budget.step();
      if (seen.has(key)) return false;
      seen.add(key);
      return true;
    });
  },
  upper: (value, _, budget) => budget.text(toText(value, budget).toUpperCase()),
};

export function isFilter(name: string): boolean {
  return Object.hasOwn(FILTERS, name);
}

/** @throws TemplateFailure */
export function applyFilter(name: string, value: Value, args: Arguments, budget: Budget): Value {
  const filter = isFilter(name) ? FILTERS[name] : undefined;
  if (filter === undefined) throw new TemplateFailure(`filter "${name}" is not supported`);
  if (typeof value === "string") budget.scan(value.length);
  return filter(value, args, budget);
}

function length(value: Value): number {
  if (value === undefined) return 0;
  if (typeof value === "string") {
    let characters = 0;
    for (const _ of value) characters++;
    return characters;
  }
  const size = isDict(value) ? value.size : sequenceItems(value)?.length;
  if (size === undefined) throw new TemplateFailure(`${typeName(value)} has no length`);
  return size;
}

function otherwise(value: Value, args: Arguments): Value {
  const { default_value, boolean } = args.bind("default", "default_value", "boolean");
  return value === undefined || (isTrue(boolean) && !isTrue(value))
    ? default_value === undefined
      ? ""
      : default_value
    : value;
}

/** @param attribute - a name, names joined by points, or an index; the item itself when undefined */
function attributeOf(item: Value, attribute: Value): Value {
  if (attribute === undefined || attribute === null) return item;
  const path = typeof attribute === "number" ? [attribute] : requireText(attribute).split(".");
  return path.reduce<Value>((value, name) => {
    if (value === undefined) throw new TemplateFailure(`an undefined value has no "${name}"`);
    if (value instanceof Namespace) return value.entries.get(String(name));
    if (isDict(value)) return value.get(name);
    const index = Number(name);
    return Number.isInteger(index) ? sequenceItems(value)?.at(index) : undefined;
  }, item);
}

function select(value: Value, args: Arguments, hasAttribute: boolean, wanted: boolean, budget: Budget): Value {
  const [attribute, test, other] = hasAttribute ? args.positional : [undefined, ...args.positional];
  if (hasAttribute && attribute === undefined) throw new TemplateFailure("an attribute is missing");
  const items = iterate(value, budget);
  budget.items(items.length);
  return items.filter((item) => {
    const found = attributeOf(item, attribute);
    const isSelected = test === undefined ? isTrue(found) : runTest(requireText(test), found, other, budget);
    return isSelected === wanted;
  });
}

function caseless(value: Value): Value {
  return typeof value === "string" ? value.toLowerCase() : value;
}

function sorted(items: readonly Value[], key: (item: Value) => Value, reverse: boolean, budget: Budget): Value[] {
  budget.items(items.length);
  const keyed = items.map((item) => ({ item, key: key(item) }));
  keyed.sort((a, b) => {
    budget.step();
    return reverse ? compare(b.key, a.key) : compare(a.key, b.key);
  });
  return keyed.map(({ item }) => item);
}

function extreme(value: Value, sign: 1 | -1, budget: Budget): Value {
  const items = iterate(value, budget);
  if (items.length === 0) return undefined;
  return items.reduce((best, item) => (sign * compare(caseless(item), caseless(best)) > 0 ? item : best));
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  "'": "&#39;",
  '"': "&#34;",
};

function escapeHtml(text: string, budget: Budget): string {
  budget.characters(5 * text.length);
  return text.replaceAll(/[&<>'"]/g, (character) => ENTITIES[character] as string);
}

function indentation(width: Value, budget: Budget): string {
  if (typeof width === "string") return width;
  const spaces = Math.max(0, optionalInteger(width, 4));
  budget.characters(spaces);
  return " ".repeat(spaces);
}

function indent(text: string, args: Arguments, budget: Budget): string {
  const { width, first, blank } = args.bind("indent", "width", "first", "blank");
  const spaces = indentation(width, budget);
  const lines = text.split("\n");
  budget.characters(text.length + lines.length * spaces.length);
  return lines
    .map((line, i) => ((i === 0 && !isTrue(first)) || (i > 0 && line === "" && !isTrue(blank)) ? line : spaces + line))
    .join("\n");
}

function requireNumber(value: Value): number {
  const number = numberOf(value);
  if (number === undefined) throw new TemplateFailure(`a number is expected, not ${typeName(value)}`);
  return number;
}

function parseFloatText(text: string): number | undefined {
  const trimmed = strip(text);
  return /^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(trimmed) ? Number(trimmed) : undefined;
}
