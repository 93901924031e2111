import type { Budget } from "./budget.ts";
import { floatText } from "./printing.ts";
import { TemplateFailure } from "./template-failure.ts";
import { Float, isDict, sequenceItems, typeName, type Value } from "./values.ts";

export interface JsonOptions {
  /** What each level is indented by; undefined for all in one line. */
  readonly indent: string | undefined;
  readonly isAscii: boolean;
  readonly itemSeparator: string;
  readonly keySeparator: string;
  readonly sortsKeys: boolean;
}

/**
 * Python's `json.dumps`.
 *
 * @throws TemplateFailure for a value that JSON does not have
 */
export function toJson(value: Value, options: JsonOptions, budget: Budget, level = 0): string {
  budget.step();
  if (value === null || typeof value === "boolean" || typeof value === "number") return String(value);
  if (value instanceof Float) return floatText(value.value).replace("inf", "Infinity").replace("nan", "NaN");
  if (typeof value === "string") return budget.text(quoted(value, options.isAscii));
  const inner = (item: Value) => budget.nested(() => toJson(item, options, budget, level + 1));
  const items = sequenceItems(value);
  if (items !== undefined) return enclose("[", items.map(inner), "]", options, budget, level);
  if (!isDict(value)) throw new TemplateFailure(`${typeName(value)} cannot be written as JSON`);
  const entries = [...value].map(([key, item]) => [keyText(key), item] as const);
  if (options.sortsKeys) entries.sort(([a], [b]) => (a < b ? -1 : Number(a > b)));
  const written = entries.map(([key, item]) => quoted(key, options.isAscii) + options.keySeparator + inner(item));
  return enclose("{", written, "}", options, budget, level);
}

function enclose(
  open: string,
  items: string[],
  close: string,
  options: JsonOptions,
  budget: Budget,
  level: number,
): string {
  if (items.length === 0) return open + close;
  const { indent, itemSeparator } = options;
  const length = items.reduce((sum, item) => sum + item.length, 0);
  budget.characters(length + items.length * (itemSeparator.length + (level + 1) * (indent?.length ?? 0)));
  if (indent === undefined) return open + items.join(itemSeparator) + close;
  const line = `\n${indent.repeat(level + 1)}`;
  return `${open}${line}${items.join(itemSeparator + line)}\n${indent.repeat(level)}${close}`;
}

function keyText(key: Value): string {
  if (typeof key === "string") return key;
  if (key === null || typeof key === "boolean" || typeof key === "number") return String(key);
  throw new TemplateFailure(`a key that is ${typeName(key)} cannot be written as JSON`);
}

function quoted(text: string, isAscii: boolean): string {
  const written = JSON.stringify(text);
  if (!isAscii) return written;
  return written.replaceAll(/[\u0080-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
