import type { Budget } from "./budget.ts";
import { toText } from "./printing.ts";
import { TemplateFailure } from "./template-failure.ts";
import { Float, isDict, isEqual, isList, numberOf, sequenceItems, Tuple, typeName, type Value } from "./values.ts";

/** @throws TemplateFailure where Python has no such operation */
export function binary(operator: string, left: Value, right: Value, budget: Budget): Value {
  switch (operator) {
    case "==":
      return isEqual(left, right, () => budget.step());
    case "!=":
      return !isEqual(left, right, () => budget.step());
    case "~":
      return concatenate(toText(left, budget), toText(right, budget), budget);
    case "in":
      return contains(right, left, budget);
    case "not in":
      return !contains(right, left, budget);
    case "<":
    case ">":
    case "<=":
    case ">=":
      return ordered(operator, compare(left, right));
    case "+":
      return add(left, right, budget);
    case "*":
      return multiply(left, right, budget);
    default:
      return arithmetic(operator, left, right);
  }
}

/** @returns negative, zero or positive */
export function compare(left: Value, right: Value): number {
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a !== undefined && b !== undefined) return a - b;
  if (typeof left === "string" && typeof right === "string") return compareText(left, right);
  throw new TemplateFailure(`${typeName(left)} and ${typeName(right)} have no order`);
}

/** By code point, as Python; JavaScript compares halves of characters. */
function compareText(left: string, right: string): number {
  const [a, b] = [Array.from(left), Array.from(right)];
  const at = a.findIndex((character, i) => character !== b[i]);
  if (at === -1 || at >= b.length) return a.length - b.length;
  return ((a[at] as string).codePointAt(0) as number) - ((b[at] as string).codePointAt(0) as number);
}

export function contains(container: Value, item: Value, budget: Budget): boolean {
  if (container === undefined) return false;
  if (typeof container === "string") {
    budget.scan(container.length);
    if (typeof item === "string") return container.includes(item);
    throw new TemplateFailure(`${typeName(item)} cannot be in a text`);
  }
  if (isDict(container)) return container.has(item);
  const items = sequenceItems(container);
  if (items === undefined) throw new TemplateFailure(`nothing can be in ${typeName(container)}`);
  return items.some((other) => isEqual(item, other, () => budget.step()));
}

function ordered(operator: string, order: number): boolean {
  if (operator === "<") return order < 0;
  if (operator === ">") return order > 0;
  return operator === "<=" ? order <= 0 : order >= 0;
}

function concatenate(left: string, right: string, budget: Budget): string {
  budget.characters(left.length + right.length);
  return left + right;
}

function add(left: Value, right: Value, budget: Budget): Value {
  if (typeof left === "string" && typeof right === "string") return concatenate(left, right, budget);
  const [a, b] = [sequenceItems(left), sequenceItems(right)];
  if (a !== undefined && b !== undefined && left instanceof Tuple === right instanceof Tuple) {
    budget.items(a.length + b.length);
    return left instanceof Tuple ? new Tuple([...a, ...b]) : [...a, ...b];
  }
  return arithmetic("+", left, right);
}

function multiply(left: Value, right: Value, budget: Budget): Value {
  const [count, repeated] = typeof right === "number" ? [right, left] : [left, right];
  if (typeof count === "number" && typeof repeated === "string") {
    budget.characters(repeated.length * Math.max(0, count));
    return repeated.repeat(Math.max(0, count));
  }
  if (typeof count === "number" && isList(repeated)) {
    budget.items(repeated.length * Math.max(0, count));
    return Array.from({ length: Math.max(0, count) }, () => repeated).flat();
  }
  return arithmetic("*", left, right);
}

function arithmetic(operator: string, left: Value, right: Value): Value {
  const [a, b] = [numberOf(left), numberOf(right)];
  if (a === undefined || b === undefined) {
    throw new TemplateFailure(`${typeName(left)} ${operator} ${typeName(right)} is not supported`);
  }
  if (b === 0 && ["/", "//", "%"].includes(operator)) throw new TemplateFailure("division by zero");
  const result = calculate(operator, a, b);
  const isFloat = operator === "/" || left instanceof Float || right instanceof Float || (operator === "**" && b < 0);
  if (isFloat) return new Float(result);
  if (!Number.isSafeInteger(result)) throw new TemplateFailure(`${left} ${operator} ${right} is too large`);
  return result;
}

function calculate(operator: string, a: number, b: number): number {
  switch (operator) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
      return a / b;
    case "//":
      return Math.floor(a / b);
    // The sign is the divisor's, as in Python.
    case "%":
      return a - b * Math.floor(a / b);
    case "**":
      return a ** b;
    default:
      throw new TemplateFailure(`operator ${operator} is not supported`);
  }
}
