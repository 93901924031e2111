import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";

/*
 * The part of `@huggingface/jinja` that is used here. Its own declarations do not resolve under Node's module rules, so
 * what we rely on is written down.
 */

/** A parsed template, or a part of one. */
export interface TemplateNode {
  readonly type: string;
}

/** A value while a template runs. */
export interface TemplateValue {
  readonly type: string;
  readonly value: unknown;
}

/** Variables by name; functions are called with plain values. */
export interface TemplateScope {
  set(name: string, value: unknown): unknown;
}

/** Evaluates templates; every expression and statement goes through `evaluate`. */
export interface TemplateInterpreter {
  evaluate(statement: TemplateNode | undefined, scope: TemplateScope): TemplateValue;
}

export const LibraryInterpreter = Interpreter as new () => TemplateInterpreter;

export function createScope(): TemplateScope {
  return new Environment() as TemplateScope;
}

/**
 * Parse a template with the whitespace rules that transformers uses.
 *
 * @throws Error of the library's own when it does not parse
 */
export function parseTemplate(source: string): TemplateNode {
  return parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true })) as TemplateNode;
}
