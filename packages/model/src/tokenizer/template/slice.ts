import type { Budget } from "./budget.ts";
import { TemplateFailure } from "./template-failure.ts";
import { isList, Tuple, typeName, type Value } from "./values.ts";

/**
 * Python's `value[start:stop:step]`; of a text by characters.
 *
 * @throws TemplateFailure for what cannot be sliced
 */
export function slice(value: Value, start: Value, stop: Value, step: Value, budget: Budget): Value {
  const pick = <T>(items: readonly T[]): T[] => {
    const picked = indices(items.length, start, stop, step).map((i) => items[i] as T);
    budget.step(1 + Math.floor(picked.length / 16));
    return picked;
  };
  if (typeof value === "string") budget.scan(4 * value.length);
  if (typeof value === "string") return budget.text(pick(Array.from(value)).join(""));
  if (isList(value)) return pick(value);
  if (value instanceof Tuple) return new Tuple(pick(value.items));
  throw new TemplateFailure(`${typeName(value)} cannot be sliced`);
}

function indices(length: number, start: Value, stop: Value, step: Value): number[] {
  const by = integer(step) ?? 1;
  if (by === 0) throw new TemplateFailure("a slice with step zero");
  const [low, high] = by > 0 ? [0, length] : [-1, length - 1];
  const clamp = (at: number) => Math.min(high, Math.max(low, at < 0 ? at + length : at));
  const from = integer(start);
  const to = integer(stop);
  const first = from === undefined ? (by > 0 ? low : high) : clamp(from);
  const end = to === undefined ? (by > 0 ? high : low) : clamp(to);
  const count = Math.max(0, Math.ceil((end - first) / by));
  return Array.from({ length: count }, (_, i) => first + i * by);
}

function integer(value: Value): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number") return value;
  throw new TemplateFailure(`a slice by ${typeName(value)}`);
}
