import { withinTime } from "../within-time.ts";
import { Budget, overLimit } from "./budget.ts";
import { isFilter } from "./filters.ts";
import { globalScope, type PlainValue } from "./globals.ts";
import { Interpreter } from "./interpreter.ts";
import { type Filter, filterName, parseTemplate, type Statement } from "./syntax.ts";
import { TemplateFailure } from "./template-failure.ts";
import { isTest } from "./tests.ts";

/**
 * Longest that parsing may take, and one rendering, on a machine that does other things too: a hundred times what they
 * take. A rendering's budget stops it in a fraction of this, unless it has overlooked something.
 */
const MAX_MILLISECONDS = { parse: 1000, run: 3000 };

/** A template that can be rendered. */
export class TemplateProgram {
  readonly #statements: readonly Statement[];

  /**
   * @throws TokenizerError CHAT_TEMPLATE_LIMIT; Error when the template does not parse, or uses a filter or a test that is
   *   not supported
   */
  constructor(source: string) {
    this.#statements = within("parse", () => parseTemplate(source));
    requireSupported(this.#statements);
  }

  /**
   * @param now - what the template takes for the current time
   * @throws TokenizerError CHAT_TEMPLATE_FAILED when the template raises, CHAT_TEMPLATE_LIMIT; TemplateFailure
   */
  render(variables: { readonly [name: string]: PlainValue }, now: Date): string {
    const budget = new Budget();
    return within("run", () => new Interpreter(budget).run(this.#statements, globalScope(variables, now, budget)));
  }
}

function within<T>(what: keyof typeof MAX_MILLISECONDS, work: () => T): T {
  const milliseconds = MAX_MILLISECONDS[what];
  try {
    return withinTime(milliseconds, work, () => overLimit(`takes more than ${milliseconds} ms to ${what}`));
  } catch (error) {
    // The stack, or a text, is as long as the engine allows.
    if (error instanceof RangeError) throw overLimit(`runs out of room: ${error.message}`);
    throw error;
  }
}

/** What a template names is looked at before it runs, so that an import fails and not the first chat. */
function requireSupported(node: unknown): void {
  if (Array.isArray(node) || node instanceof Map) {
    for (const child of node) requireSupported(child);
    return;
  }
  if (typeof node !== "object" || node === null) return;
  const { type, filter, test } = node as { type?: string; filter?: Filter; test?: { value: string } };
  if (type === "FilterExpression" || type === "FilterStatement") {
    const name = filterName(filter as Filter) ?? "(…)";
    if (!isFilter(name)) throw new TemplateFailure(`filter "${name}" is not supported`);
  }
  if (type === "TestExpression" && !isTest((test as { value: string }).value)) {
    throw new TemplateFailure(`test "${test?.value}" is not supported`);
  }
  if (type === "Set" && !SETTABLE.includes((node as { assignee: { type: string } }).assignee.type)) {
    throw new TemplateFailure("a filter on what is set is not supported");
  }
  const { value: name } = node as { value?: unknown };
  if (type === "Identifier" && OTHER_GLOBALS.includes(String(name))) {
    throw new TemplateFailure(`"${name}" is not supported`);
  }
  for (const child of Object.values(node)) requireSupported(child);
}

const SETTABLE = ["Identifier", "TupleLiteral", "MemberExpression"];

/** Functions that Jinja defines and these templates do not have. */
const OTHER_GLOBALS = ["cycler", "joiner", "lipsum"];
