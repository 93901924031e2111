import { TemplateFailure } from "./template-failure.ts";

/**
 * Values while a template runs, as Jinja has them from Python: undefined is Jinja's `Undefined`, null is `None`, numbers are
 * integers.
 */
export type Value =
  | undefined
  | null
  | boolean
  | number
  | Float
  | string
  | readonly Value[]
  | Tuple
  | Dict
  | Namespace
  | Callable;

/** Keys are strings but for what a template writes down itself. */
export type Dict = ReadonlyMap<Value, Value>;

/** A number that prints with a point. */
export class Float {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

export class Tuple {
  readonly items: readonly Value[];

  constructor(items: readonly Value[]) {
    this.items = items;
  }
}

/** The one thing a template can change. */
export class Namespace {
  readonly entries: Map<string, Value>;

  constructor(entries: Map<string, Value>) {
    this.entries = entries;
  }
}

export class Callable {
  readonly name: string;
  readonly call: (args: Arguments) => Value;

  constructor(name: string, call: (args: Arguments) => Value) {
    this.name = name;
    this.call = call;
  }
}

/** What a function, a filter or a macro is called with. */
export class Arguments {
  readonly positional: readonly Value[];
  readonly named: ReadonlyMap<string, Value>;

  constructor(positional: readonly Value[] = [], named: ReadonlyMap<string, Value> = new Map()) {
    this.positional = positional;
    this.named = named;
  }

  /**
   * The values of parameters, by position or by name.
   *
   * @param of - the function, for errors
   * @throws TemplateFailure when there are more, or others
   */
  bind<Name extends string>(of: string, ...names: readonly Name[]): { [name in Name]: Value } {
    if (this.positional.length > names.length) {
      throw new TemplateFailure(`${of} takes ${names.length} arguments, not ${this.positional.length}`);
    }
    for (const name of this.named.keys()) {
      if (!names.includes(name as Name)) throw new TemplateFailure(`${of} takes no argument "${name}"`);
    }
    const bound = names.map((name, i) => [
      name,
      i < this.positional.length ? this.positional[i] : this.named.get(name),
    ]);
    return Object.fromEntries(bound) as { [name in Name]: Value };
  }
}

/** What templates call a type in their errors. */
export function typeName(value: Value): string {
  if (value === undefined) return "Undefined";
  if (value === null) return "NoneType";
  if (typeof value === "boolean") return "bool";
  if (typeof value === "number") return "int";
  if (typeof value === "string") return "str";
  if (Array.isArray(value)) return "list";
  if (value instanceof Map) return "dict";
  return value.constructor.name.toLowerCase();
}

/** The items of a list or a tuple, or undefined. */
export function sequenceItems(value: Value): readonly Value[] | undefined {
  if (value instanceof Tuple) return value.items;
  return isList(value) ? value : undefined;
}

export function isList(value: Value): value is readonly Value[] {
  return Array.isArray(value);
}

export function isDict(value: Value): value is Dict {
  return value instanceof Map;
}

/** A number as JavaScript has it, booleans too, or undefined. */
export function numberOf(value: Value): number | undefined {
  if (typeof value === "number") return value;
  if (typeof value === "boolean") return Number(value);
  return value instanceof Float ? value.value : undefined;
}

export function isTrue(value: Value): boolean {
  if (value === undefined || value === null || value === "") return false;
  if (isDict(value)) return value.size > 0;
  const items = sequenceItems(value);
  if (items !== undefined) return items.length > 0;
  return numberOf(value) !== 0;
}

/** @param step - called for each pair of values that is compared */
export function isEqual(a: Value, b: Value, step: () => void): boolean {
  step();
  const left = numberOf(a);
  if (left !== undefined) return left === numberOf(b);
  if (isDict(a)) {
    if (!isDict(b) || a.size !== b.size) return false;
    for (const [key, value] of a) if (!b.has(key) || !isEqual(value, b.get(key), step)) return false;
    return true;
  }
  const items = sequenceItems(a);
  if (items === undefined) return a === b;
  const others = sequenceItems(b);
  if (others === undefined || a instanceof Tuple !== b instanceof Tuple || items.length !== others.length) return false;
  return items.every((item, i) => isEqual(item, others[i], step));
}
