import type { Budget } from "./budget.ts";
import { TemplateFailure } from "./template-failure.ts";
import { Callable, Float, isDict, isList, Tuple, typeName, type Value } from "./values.ts";

/** `str(value)`: what `{{ value }}` writes. */
export function toText(value: Value, budget: Budget): string {
  if (value === undefined) return "";
  return typeof value === "string" ? value : represent(value, budget);
}

/** `repr(value)`: what stands for a value within a list. */
function represent(value: Value, budget: Budget): string {
  budget.step();
  if (value === undefined) return "Undefined";
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return String(value);
  if (typeof value === "string") {
    budget.scan(8 * value.length);
    return budget.text(quote(value));
  }
  if (value instanceof Float) return floatText(value.value);
  const all = (items: readonly Value[]) => budget.nested(() => items.map((item) => represent(item, budget)).join(", "));
  if (isList(value)) return budget.text(`[${all(value)}]`);
  if (value instanceof Tuple) return budget.text(`(${all(value.items)}${value.items.length === 1 ? "," : ""})`);
  if (isDict(value)) {
    const entries = budget.nested(() => [...value].map(([k, v]) => `${represent(k, budget)}: ${represent(v, budget)}`));
    return budget.text(`{${entries.join(", ")}}`);
  }
  throw new TemplateFailure(`writing a ${value instanceof Callable ? "function" : typeName(value)} is not supported`);
}

/** Python's shortest form: an exponent from 1e16 and below 1e-4, of two digits at least. */
export function floatText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    return value.toExponential().replace(/e([+-])(\d)$/, "e$10$2");
  }
  const text = Object.is(value, -0) ? "-0" : String(value);
  return text.includes(".") ? text : `${text}.0`;
}

const NOT_PRINTABLE = /[\\\p{C}\p{Z}]/gu;
const ESCAPES: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", " ": " " };

function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replaceAll(NOT_PRINTABLE, (character) => {
    if (Object.hasOwn(ESCAPES, character)) return ESCAPES[character] as string;
    const code = character.codePointAt(0) as number;
    if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
    return code < 0x10000 ? `\\u${code.toString(16).padStart(4, "0")}` : `\\U${code.toString(16).padStart(8, "0")}`;
  });
  return mark + (mark === "'" ? escaped.replaceAll("'", "\\'") : escaped) + mark;
}
