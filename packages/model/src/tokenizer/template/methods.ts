import {
  capitalize,
  type Side,
  splitAt,
  splitAtFromEnd,
  splitLines,
  splitSpaces,
  strip,
  title,
} from "../python-text.ts";
import type { Budget } from "./budget.ts";
import { TemplateFailure } from "./template-failure.ts";
import { type Arguments, Callable, type Dict, isEqual, Tuple, typeName, type Value } from "./values.ts";

type Method<Of> = (self: Of, args: Arguments, budget: Budget) => Value;

const TEXT_METHODS: Readonly<Record<string, Method<string>>> = {
  strip: (text, args) => stripped(text, args, "both"),
  lstrip: (text, args) => stripped(text, args, "left"),
  rstrip: (text, args) => stripped(text, args, "right"),
  upper: (text, _, budget) => budget.text(text.toUpperCase()),
  lower: (text, _, budget) => budget.text(text.toLowerCase()),
  title: (text, _, budget) => budget.text(title(text)),
  capitalize: (text, _, budget) => budget.text(capitalize(text)),
  startswith: (text, args) => affixes(args, "startswith").some((affix) => text.startsWith(affix)),
  endswith: (text, args) => affixes(args, "endswith").some((affix) => text.endsWith(affix)),
  split: (text, args, budget) => split(text, args, "split", splitAt, budget),
  rsplit: (text, args, budget) => split(text, args, "rsplit", splitAtFromEnd, budget),
  splitlines: (text, args, budget) => {
    args.bind("splitlines");
    return listed(splitLines(text), budget);
  },
  partition: (text, args) => partition(text, args, "partition"),
  rpartition: (text, args) => partition(text, args, "rpartition"),
  replace: (text, args, budget) => {
    const { old, new: by, count } = args.bind("replace", "old", "new", "count");
    return replaceText(text, requireText(old), requireText(by), optionalInteger(count, -1), budget);
  },
  join: (separator, args, budget) => {
    const { iterable } = args.bind("join", "iterable");
    return joinTexts(iterate(iterable, budget).map(requireText), separator, budget);
  },
  find: (text, args) => {
    const at = text.indexOf(requireText(args.bind("find", "sub").sub));
    return at === -1 ? -1 : Array.from(text.slice(0, at)).length;
  },
  count: (text, args) => {
    const sub = requireText(args.bind("count", "sub").sub);
    return (sub === "" ? Array.from(text).length : text.split(sub).length - 2) + 1;
  },
  isdigit: (text) => /^[\p{Nd}\u00b2\u00b3\u00b9]+$/u.test(text),
  isalpha: (text) => /^\p{L}+$/u.test(text),
  isspace: (text) => text !== "" && strip(text) === "",
  isupper: (text) => /\p{Lu}/u.test(text) && !/[\p{Ll}\p{Lt}]/u.test(text),
  islower: (text) => /\p{Ll}/u.test(text) && !/[\p{Lu}\p{Lt}]/u.test(text),
  removeprefix: (text, args) => {
    const affix = requireText(args.bind("removeprefix", "prefix").prefix);
    return text.startsWith(affix) ? text.slice(affix.length) : text;
  },
  removesuffix: (text, args) => {
    const affix = requireText(args.bind("removesuffix", "suffix").suffix);
    return affix !== "" && text.endsWith(affix) ? text.slice(0, -affix.length) : text;
  },
};

const LIST_METHODS: Readonly<Record<string, Method<readonly Value[]>>> = {
  count: (items, args, budget) => {
    const { value } = args.bind("count", "value");
    return items.filter((item) => isEqual(item, value, () => budget.step())).length;
  },
  index: (items, args, budget) => {
    const { value } = args.bind("index", "value");
    const at = items.findIndex((item) => isEqual(item, value, () => budget.step()));
    if (at === -1) throw new TemplateFailure("the value is not in the list");
    return at;
  },
};

const DICT_METHODS: Readonly<Record<string, Method<Dict>>> = {
  get: (dict, args) => {
    const { key, default: otherwise } = args.bind("get", "key", "default");
    return dict.has(key) ? dict.get(key) : (otherwise ?? null);
  },
  items: (dict, _, budget) => {
    budget.items(dict.size);
    return [...dict].map((entry) => new Tuple(entry));
  },
  keys: (dict, _, budget) => {
    budget.items(dict.size);
    return [...dict.keys()];
  },
  values: (dict, _, budget) => {
    budget.items(dict.size);
    return [...dict.values()];
  },
};

/** Methods that Python has and these do not: they are refused, where other names are just not there. */
const OTHER_TEXT_METHODS = words(
  "casefold center encode expandtabs format format_map index isalnum isascii isdecimal isidentifier isnumeric isprintable istitle ljust maketrans rfind rindex rjust swapcase translate zfill",
);
const OTHER_LIST_METHODS = words("append clear copy extend insert pop remove reverse sort");
const OTHER_DICT_METHODS = words("clear copy fromkeys pop popitem setdefault update");

/**
 * @returns the method of that name, bound to `self`; undefined when its type has none
 * @throws TemplateFailure for a method that exists in Python only
 */
export function methodOf(self: Value, name: string, budget: Budget): Callable | undefined {
  if (typeof self === "string") return bind(self, name, TEXT_METHODS, OTHER_TEXT_METHODS, budget);
  if (Array.isArray(self)) return bind(self as readonly Value[], name, LIST_METHODS, OTHER_LIST_METHODS, budget);
  if (self instanceof Tuple) return bind(self.items, name, LIST_METHODS, new Set(), budget);
  if (self instanceof Map) return bind(self as Dict, name, DICT_METHODS, OTHER_DICT_METHODS, budget);
  return undefined;
}

function bind<Of>(
  self: Of,
  name: string,
  methods: Readonly<Record<string, Method<Of>>>,
  others: ReadonlySet<string>,
  budget: Budget,
): Callable | undefined {
  if (others.has(name)) throw new TemplateFailure(`method "${name}" is not supported`);
  const method = Object.hasOwn(methods, name) ? methods[name] : undefined;
  if (method === undefined) return undefined;
  return new Callable(name, (args) => {
    if (typeof self === "string") budget.scan(self.length);
    return method(self, args, budget);
  });
}

function words(text: string): ReadonlySet<string> {
  return new Set(text.split(" "));
}

/** @throws TemplateFailure when `value` is not a text */
export function requireText(value: Value): string {
  if (typeof value === "string") return value;
  throw new TemplateFailure(`a text is expected, not ${typeName(value)}`);
}

/** @throws TemplateFailure when `value` is not an integer */
export function optionalInteger(value: Value, otherwise: number): number {
  if (value === undefined || value === null) return otherwise;
  if (typeof value === "number") return value;
  throw new TemplateFailure(`an integer is expected, not ${typeName(value)}`);
}

/**
 * What a loop goes through: items, keys, characters.
 *
 * @throws TemplateFailure for what cannot be iterated
 */
export function iterate(value: Value, budget: Budget): readonly Value[] {
  if (value === undefined) return [];
  if (typeof value === "string") return listed(Array.from(value), budget);
  if (Array.isArray(value)) return value;
  if (value instanceof Tuple) return value.items;
  if (value instanceof Map) return listed([...value.keys()], budget);
  throw new TemplateFailure(`${typeName(value)} cannot be iterated`);
}

function listed(items: Value[], budget: Budget): Value[] {
  budget.items(items.length);
  return items;
}

export function joinTexts(texts: readonly string[], separator: string, budget: Budget): string {
  const length = texts.reduce((sum, text) => sum + text.length, 0);
  budget.characters(length + separator.length * Math.max(0, texts.length - 1));
  return texts.join(separator);
}

/** @param count - replacements at most; no limit when negative */
export function replaceText(text: string, old: string, by: string, count: number, budget: Budget): string {
  if (old === "") {
    const characters = Array.from(text);
    const before = count < 0 ? characters.length + 1 : Math.min(count, characters.length + 1);
    budget.characters(text.length + before * by.length);
    const replaced = characters.map((character, i) => (i < before ? by + character : character)).join("");
    return before > characters.length ? replaced + by : replaced;
  }
  return joinTexts(splitAt(text, old, count), by, budget);
}

function stripped(text: string, args: Arguments, side: Side): string {
  const { chars } = args.bind("strip", "chars");
  return strip(text, side, chars === undefined || chars === null ? undefined : requireText(chars));
}

function affixes(args: Arguments, of: string): string[] {
  const { affix } = args.bind(of, "affix");
  return affix instanceof Tuple ? affix.items.map(requireText) : [requireText(affix)];
}

function split(text: string, args: Arguments, of: string, at: typeof splitAt, budget: Budget): Value {
  const { sep, maxsplit } = args.bind(of, "sep", "maxsplit");
  const limit = optionalInteger(maxsplit, -1);
  if (sep === undefined || sep === null) {
    if (of === "rsplit" && limit >= 0) throw new TemplateFailure("rsplit at white space with a limit is not supported");
    return listed(splitSpaces(text, limit), budget);
  }
  if (sep === "") throw new TemplateFailure(`${of} at an empty text`);
  return listed(at(text, requireText(sep), limit), budget);
}

function partition(text: string, args: Arguments, of: "partition" | "rpartition"): Tuple {
  const sep = requireText(args.bind(of, "sep").sep);
  if (sep === "") throw new TemplateFailure(`${of} at an empty text`);
  const at = of === "partition" ? text.indexOf(sep) : text.lastIndexOf(sep);
  if (at === -1) return new Tuple(of === "partition" ? [text, "", ""] : ["", "", text]);
  return new Tuple([text.slice(0, at), sep, text.slice(at + sep.length)]);
}
