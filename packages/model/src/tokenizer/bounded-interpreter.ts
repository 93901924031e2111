import { createContext, Script } from "node:vm";
import { TokenizerError } from "../errors.ts";
import { LibraryInterpreter, type TemplateNode, type TemplateScope, type TemplateValue } from "./jinja-library.ts";

/** Expressions and statements one rendering may evaluate; real templates take about 50 for each message. */
const MAX_STEPS = 1_000_000;

/** Longest text a template may hold or write. */
const MAX_CHARACTERS = 4 * 1024 * 1024;

/** Longest list, `range` included. */
export const MAX_ITEMS = 100_000;

/**
 * Longest a rendering may take: a hundred times what a long chat takes. For what no count of steps sees, such as
 * printing a list that holds itself sixty times over.
 */
const MAX_MILLISECONDS = 1000;

/**
 * Run a template with a budget. It comes with a checkpoint, so it is a program from a stranger: it may loop, recurse and
 * double its text, but only so far.
 *
 * @throws TokenizerError CHAT_TEMPLATE_LIMIT beyond the budget; whatever the template itself raises
 */
export function runBounded(program: TemplateNode, scope: TemplateScope): string {
  const interpreter = new BoundedInterpreter();
  try {
    return withinTime(() => String(interpreter.evaluate(program, scope).value));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_TIMEOUT") {
      throw overLimit(`runs longer than ${MAX_MILLISECONDS} ms`);
    }
    // The stack or a string is as long as the engine allows.
    if (error instanceof RangeError) throw overLimit(`runs out of room: ${error.message}`);
    throw error;
  }
}

class BoundedInterpreter extends LibraryInterpreter {
  #steps = 0;

  override evaluate(statement: TemplateNode | undefined, scope: TemplateScope): TemplateValue {
    if (++this.#steps > MAX_STEPS) throw overLimit(`evaluates more than ${MAX_STEPS} expressions`);
    const result = super.evaluate(statement, scope);
    const { value } = result;
    if (typeof value === "string" && value.length > MAX_CHARACTERS) {
      throw overLimit(`makes a text of more than ${MAX_CHARACTERS} characters`);
    }
    if (Array.isArray(value) && value.length > MAX_ITEMS) {
      throw overLimit(`makes a list of more than ${MAX_ITEMS} items`);
    }
    return result;
  }
}

export function overLimit(what: string): TokenizerError {
  return new TokenizerError("CHAT_TEMPLATE_LIMIT", `the chat template ${what}`);
}

// The engine can interrupt only what was started as a script, so the work is called from one. Costs about 0.2 ms.
const timed = createContext({ work: undefined }) as { work: (() => unknown) | undefined };
const callWork = new Script("work()");

function withinTime<T>(work: () => T): T {
  timed.work = work;
  try {
    return callWork.runInContext(timed, { timeout: MAX_MILLISECONDS }) as T;
  } finally {
    timed.work = undefined;
  }
}
