import type { Budget } from "./budget.ts";
import { compare, contains } from "./operators.ts";
import { TemplateFailure } from "./template-failure.ts";
import { Callable, Float, isDict, isEqual, Namespace, numberOf, sequenceItems, type Value } from "./values.ts";

type Test = (value: Value, other: Value, budget: Budget) => boolean;

const equal: Test = (value, other, budget) => isEqual(value, other, () => budget.step());

/** What can stand behind `is`, and in `select` and its like. */
const TESTS: Readonly<Record<string, Test>> = {
  defined: (value) => value !== undefined,
  undefined: (value) => value === undefined,
  none: (value) => value === null,
  true: (value) => value === true,
  false: (value) => value === false,
  boolean: (value) => typeof value === "boolean",
  integer: (value) => typeof value === "number",
  float: (value) => value instanceof Float,
  number: (value) => numberOf(value) !== undefined,
  string: (value) => typeof value === "string",
  mapping: (value) => isDict(value),
  iterable: (value) =>
    numberOf(value) === undefined && value !== null && !(value instanceof Callable || value instanceof Namespace),
  sequence: (value) => typeof value === "string" || isDict(value) || sequenceItems(value) !== undefined,
  callable: (value) => value instanceof Callable,
  odd: (value) => Math.abs(requireNumber(value) % 2) === 1,
  even: (value) => requireNumber(value) % 2 === 0,
  lower: (value) => typeof value === "string" && /\p{Ll}/u.test(value) && !/[\p{Lu}\p{Lt}]/u.test(value),
  upper: (value) => typeof value === "string" && /\p{Lu}/u.test(value) && !/[\p{Ll}\p{Lt}]/u.test(value),
  equalto: equal,
  eq: equal,
  "==": equal,
  ne: (value, other, budget) => !equal(value, other, budget),
  "!=": (value, other, budget) => !equal(value, other, budget),
  lt: (value, other) => compare(value, other) < 0,
  gt: (value, other) => compare(value, other) > 0,
  le: (value, other) => compare(value, other) <= 0,
  ge: (value, other) => compare(value, other) >= 0,
  in: (value, other, budget) => contains(other, value, budget),
  divisibleby: (value, other) => requireNumber(value) % requireNumber(other) === 0,
};

export function isTest(name: string): boolean {
  return Object.hasOwn(TESTS, name);
}

/** @throws TemplateFailure */
export function runTest(name: string, value: Value, other: Value, budget: Budget): boolean {
  const test = isTest(name) ? TESTS[name] : undefined;
  if (test === undefined) throw new TemplateFailure(`test "${name}" is not supported`);
  return test(value, other, budget);
}

function requireNumber(value: Value): number {
  const number = numberOf(value);
  if (number === undefined) throw new TemplateFailure("a number is expected");
  return number;
}
