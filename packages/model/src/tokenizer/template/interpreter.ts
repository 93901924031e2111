import type { Budget } from "./budget.ts";
import { applyFilter } from "./filters.ts";
import { iterate, methodOf } from "./methods.ts";
import { binary } from "./operators.ts";
import { toText } from "./printing.ts";
import { Scope } from "./scope.ts";
import { slice } from "./slice.ts";
import { type Call, type Expression, type Filter, filterName, type Parameter, type Statement } from "./syntax.ts";
import { TemplateFailure } from "./template-failure.ts";
import { runTest } from "./tests.ts";
import {
  Arguments,
  Callable,
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

/** How a run of statements ended. */
type Ending = "end" | "break" | "continue";

type Of<Node, Type extends string> = Extract<Node, { type: Type }>;

/** What a pass of a loop costs before its body does anything: a scope, and the fields of `loop`. */
const PASS_STEPS = 4;

const CONSTANTS: ReadonlyMap<string, Value> = new Map([
  ["true", true],
  ["True", true],
  ["false", false],
  ["False", false],
  ["none", null],
  ["None", null],
] as const);

/** Runs one template once, by Jinja's rules as transformers sets them: values that are missing print as nothing. */
export class Interpreter {
  readonly #budget: Budget;
  #output: string[] = [];

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /**
   * @returns what the template writes
   * @throws TemplateFailure; TokenizerError CHAT_TEMPLATE_LIMIT
   */
  run(program: readonly Statement[], scope: Scope): string {
    this.#statements(program, scope);
    return this.#output.join("");
  }

  #statements(statements: readonly Statement[], scope: Scope): Ending {
    for (const statement of statements) {
      const ending = this.#statement(statement, scope);
      if (ending !== "end") return ending;
    }
    return "end";
  }

  #statement(node: Statement, scope: Scope): Ending {
    this.#budget.step();
    switch (node.type) {
      case "Comment":
        return "end";
      case "Break":
        return "break";
      case "Continue":
        return "continue";
      case "If":
        return this.#statements(isTrue(this.#value(node.test, scope)) ? node.body : node.alternate, scope);
      case "For":
        this.#for(node, scope);
        return "end";
      case "Set":
        this.#set(node, scope);
        return "end";
      case "Macro":
        scope.set(node.name.value, this.#macro(node.name.value, node.args, node.body, scope));
        return "end";
      case "CallStatement":
        this.#write(this.#callBlock(node, scope));
        return "end";
      case "FilterStatement":
        this.#write(this.#filter(node.filter, this.#capture(node.body, new Scope(scope)), scope));
        return "end";
      default:
        this.#write(this.#value(node, scope));
        return "end";
    }
  }

  #write(value: Value): void {
    const text = toText(value, this.#budget);
    if (text === "") return;
    this.#budget.characters(text.length);
    this.#output.push(text);
  }

  /** What statements write, instead of writing it. */
  #capture(statements: readonly Statement[], scope: Scope): string {
    const outer = this.#output;
    this.#output = [];
    try {
      this.#budget.nested(() => this.#statements(statements, scope));
      const length = this.#output.reduce((sum, text) => sum + text.length, 0);
      this.#budget.characters(length);
      return this.#output.join("");
    } finally {
      this.#output = outer;
    }
  }

  #for(node: Of<Statement, "For">, scope: Scope): void {
    const [source, test] =
      node.iterable.type === "SelectExpression" ? [node.iterable.lhs, node.iterable.test] : [node.iterable, undefined];
    const all = iterate(this.#value(source, scope), this.#budget);
    const items = all.filter((item) => {
      if (test === undefined) return true;
      const inner = new Scope(scope);
      this.#assign(node.loopvar, item, inner);
      return isTrue(this.#value(test, inner));
    });
    let isWhole = false;
    for (const [i, item] of items.entries()) {
      this.#budget.step(PASS_STEPS);
      const inner = new Scope(scope);
      inner.set("loop", this.#loop(items, i));
      this.#assign(node.loopvar, item, inner);
      const ending = this.#statements(node.body, inner);
      if (ending === "break") break;
      // As Jinja compiles it: a pass that was cut short does not count.
      if (ending === "end") isWhole = true;
    }
    if (!isWhole) this.#statements(node.defaultBlock, new Scope(scope));
  }

  #loop(items: readonly Value[], i: number): Value {
    const cycle = new Callable("cycle", ({ positional }) => positional[i % positional.length]);
    return new Namespace(
      new Map<string, Value>([
        ["index", i + 1],
        ["index0", i],
        ["revindex", items.length - i],
        ["revindex0", items.length - i - 1],
        ["first", i === 0],
        ["last", i === items.length - 1],
        ["length", items.length],
        // Only loops that call themselves go deeper, and those do not parse.
        ["depth", 1],
        ["depth0", 0],
        ["previtem", items[i - 1]],
        ["nextitem", items[i + 1]],
        ["cycle", cycle],
      ]),
    );
  }

  #set(node: Of<Statement, "Set">, scope: Scope): void {
    const value = node.value === null ? this.#capture(node.body, new Scope(scope)) : this.#value(node.value, scope);
    this.#assign(node.assignee, value, scope);
  }

  #assign(target: Expression, value: Value, scope: Scope): void {
    switch (target.type) {
      case "Identifier":
        scope.set(target.value, value);
        return;
      case "TupleLiteral": {
        const items = iterate(value, this.#budget);
        if (items.length !== target.value.length) {
          throw new TemplateFailure(`${items.length} values for ${target.value.length} names`);
        }
        for (const [i, inner] of target.value.entries()) this.#assign(inner, items[i], scope);
        return;
      }
      case "MemberExpression": {
        const namespace = this.#value(target.object, scope);
        if (!(namespace instanceof Namespace) || target.computed || target.property.type !== "Identifier") {
          throw new TemplateFailure("only fields of a namespace can be set");
        }
        namespace.entries.set(target.property.value, value);
        return;
      }
      default:
        throw new TemplateFailure(`${target.type} cannot be set`);
    }
  }

  #macro(name: string, parameters: readonly Parameter[], body: readonly Statement[], scope: Scope): Callable {
    return new Callable(name, ({ positional, named }) => {
      const inner = new Scope(scope);
      const rest = new Map(named);
      const caller = rest.get("caller");
      rest.delete("caller");
      inner.set("caller", caller);
      for (const [i, parameter] of parameters.entries()) {
        const key = parameter.type === "Identifier" ? parameter.value : parameter.key.value;
        const isGiven = i < positional.length || rest.has(key);
        const given = i < positional.length ? positional[i] : rest.get(key);
        rest.delete(key);
        const fallback = isGiven || parameter.type === "Identifier" ? undefined : parameter.value;
        inner.set(key, fallback === undefined ? given : this.#value(fallback, inner));
      }
      const varargs = positional.slice(parameters.length);
      if (varargs.length > 0 && !mentions(body, "varargs")) {
        throw new TemplateFailure(`macro ${name} takes ${parameters.length} arguments, not ${positional.length}`);
      }
      if (rest.size > 0 && !mentions(body, "kwargs")) {
        throw new TemplateFailure(`macro ${name} takes no argument "${[...rest.keys()][0]}"`);
      }
      inner.set("varargs", new Tuple(varargs));
      inner.set("kwargs", rest);
      return this.#capture(body, inner);
    });
  }

  #callBlock(node: Of<Statement, "CallStatement">, scope: Scope): Value {
    const caller = this.#macro("caller", node.callerArgs ?? [], node.body, scope);
    const { positional, named } = this.#arguments(node.call.args, scope);
    const called = this.#value(node.call.callee, scope);
    return this.#invoke(called, new Arguments(positional, new Map([...named, ["caller", caller]])));
  }

  #value(node: Expression, scope: Scope): Value {
    this.#budget.step();
    switch (node.type) {
      case "StringLiteral":
      case "IntegerLiteral":
        return node.value;
      case "FloatLiteral":
        return new Float(node.value);
      case "Identifier":
        return CONSTANTS.has(node.value) ? CONSTANTS.get(node.value) : scope.get(node.value);
      case "ArrayLiteral":
        return node.value.map((item) => this.#value(item, scope));
      case "TupleLiteral":
        return new Tuple(node.value.map((item) => this.#value(item, scope)));
      case "ObjectLiteral":
        return new Map([...node.value].map(([key, value]) => [this.#key(key, scope), this.#value(value, scope)]));
      case "MemberExpression":
        return this.#member(node, scope);
      case "CallExpression":
        return this.#call(node, scope);
      case "UnaryExpression":
        return unary(node.operator.value, this.#value(node.argument, scope));
      case "BinaryExpression":
        return this.#binary(node, scope);
      case "FilterExpression":
        return this.#filter(node.filter, this.#value(node.operand, scope), scope);
      case "TestExpression": {
        const isPassed = runTest(node.test.value, this.#value(node.operand, scope), undefined, this.#budget);
        return isPassed !== node.negate;
      }
      case "Ternary":
        return this.#value(isTrue(this.#value(node.condition, scope)) ? node.trueExpr : node.falseExpr, scope);
      case "SelectExpression":
        return isTrue(this.#value(node.test, scope)) ? this.#value(node.lhs, scope) : undefined;
      default:
        throw new TemplateFailure(`${node.type} at this place is not supported`);
    }
  }

  #key(node: Expression, scope: Scope): Value {
    const key = this.#value(node, scope);
    if (typeof key === "string" || typeof key === "number" || typeof key === "boolean" || key === null) return key;
    throw new TemplateFailure(`a key that is ${typeName(key)} is not supported`);
  }

  #binary(node: Of<Expression, "BinaryExpression">, scope: Scope): Value {
    const left = this.#value(node.left, scope);
    const operator = node.operator.value;
    if (operator === "and") return isTrue(left) ? this.#value(node.right, scope) : left;
    if (operator === "or") return isTrue(left) ? left : this.#value(node.right, scope);
    return binary(operator, left, this.#value(node.right, scope), this.#budget);
  }

  /** `a.b` looks for a method first, then for an item, `a["b"]` the other way round. */
  #member({ object, property, computed }: Of<Expression, "MemberExpression">, scope: Scope): Value {
    const value = this.#value(object, scope);
    if (property.type === "SliceExpression") {
      const bound = (node: Expression | undefined) => (node === undefined ? undefined : this.#value(node, scope));
      return slice(value, bound(property.start), bound(property.stop), bound(property.step), this.#budget);
    }
    const key = computed || property.type !== "Identifier" ? this.#value(property, scope) : property.value;
    if (value === undefined) throw new TemplateFailure(`an undefined value has no ${JSON.stringify(key)}`);
    if (value instanceof Namespace) return typeof key === "string" ? value.entries.get(key) : undefined;
    if (isDict(value) && (computed || methodOf(value, String(key), this.#budget) === undefined)) {
      if (value.has(key)) return value.get(key);
    }
    if (typeof key === "string") return methodOf(value, key, this.#budget);
    if (typeof key !== "number") return undefined;
    if (typeof value === "string") return characterAt(value, key, this.#budget);
    return sequenceItems(value)?.at(key);
  }

  #call(node: Call, scope: Scope): Value {
    const called = this.#value(node.callee, scope);
    return this.#invoke(called, this.#arguments(node.args, scope));
  }

  #invoke(called: Value, args: Arguments): Value {
    if (!(called instanceof Callable)) throw new TemplateFailure(`${typeName(called)} cannot be called`);
    return called.call(args);
  }

  #filter(filter: Filter, value: Value, scope: Scope): Value {
    const name = filterName(filter) ?? "";
    const args = filter.type === "CallExpression" ? this.#arguments(filter.args, scope) : new Arguments();
    return applyFilter(name, value, args, this.#budget);
  }

  #arguments(nodes: readonly Expression[], scope: Scope): Arguments {
    const positional: Value[] = [];
    const named = new Map<string, Value>();
    for (const node of nodes) {
      if (node.type === "KeywordArgumentExpression") named.set(node.key.value, this.#value(node.value, scope));
      else if (node.type === "SpreadExpression") {
        const items = iterate(this.#value(node.argument, scope), this.#budget);
        this.#budget.items(items.length);
        for (const item of items) positional.push(item);
      } else if (node.type === "KeywordSpreadExpression") {
        const dict = this.#value(node.argument, scope);
        if (!isDict(dict)) throw new TemplateFailure(`** needs a dict, not ${typeName(dict)}`);
        for (const [key, value] of dict) named.set(String(key), value);
      } else positional.push(this.#value(node, scope));
    }
    return new Arguments(positional, named);
  }
}

function unary(operator: string, value: Value): Value {
  if (operator === "not") return !isTrue(value);
  const number = numberOf(value);
  if (number === undefined) throw new TemplateFailure(`${operator} of ${typeName(value)}`);
  const signed = operator === "-" ? -number : number;
  return value instanceof Float ? new Float(signed) : signed + 0;
}

function characterAt(text: string, index: number, budget: Budget): string | undefined {
  budget.scan(4 * text.length);
  return Array.from(text).at(index);
}

/** Whether a name occurs in statements. Macros that do not mention `varargs` take no more arguments than they name. */
function mentions(statements: unknown, name: string): boolean {
  if (Array.isArray(statements)) return statements.some((node) => mentions(node, name));
  if (statements instanceof Map) return [...statements].some((entry) => mentions(entry, name));
  if (typeof statements !== "object" || statements === null) return false;
  const node = statements as { type?: string; value?: unknown };
  if (node.type === "Identifier" && node.value === name) return true;
  return Object.values(node).some((child) => mentions(child, name));
}
