import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { PlainValue } from "./globals.ts";
import { TemplateProgram } from "./program.ts";

/** Made by tools/model-fixtures/template_reference.py: what transformers makes of templates of every family's kind. */
const FIXTURES = new URL("../fixtures/templates/", import.meta.url);
/** The reference's `strftime_now`. */
const NOW = new Date("2026-03-04T05:06:07Z");

type Variables = { readonly [name: string]: PlainValue };

interface Family {
  readonly source: string;
  readonly tokens: Variables;
  /** `text` is missing where the template refuses. */
  readonly cases: ({ readonly text?: string } & Variables)[];
}

interface Snippets {
  readonly scope: Variables;
  readonly snippets: { readonly source: string; readonly text: string }[];
  readonly refused: string[];
}

const read = <T>(name: string) => JSON.parse(readFileSync(new URL(`${name}.json`, FIXTURES), "utf8")) as T;
const families = readdirSync(FIXTURES)
  .map((file) => file.replace(".json", ""))
  .filter((name) => name !== "snippets");
const always = { tools: null, documents: null };

describe("a chat template", () => {
  it.each(families)("of %s renders as transformers renders it", (name) => {
    const { source, tokens, cases } = read<Family>(name);
    const program = new TemplateProgram(source);
    expect(cases.some(({ text }) => text !== undefined)).toBe(true);
    for (const { text, ...variables } of cases) {
      const render = () => program.render({ ...tokens, ...always, ...variables }, NOW);
      if (text === undefined) expect(render, JSON.stringify(variables)).toThrow(/refused|expected/);
      else expect(render(), JSON.stringify(variables)).toBe(text);
    }
  });

  const { scope, snippets, refused } = read<Snippets>("snippets");

  it.each(snippets.map(({ source, text }) => [source, text] as const))("means what Jinja means: %s", (source, text) => {
    expect(text).toBeDefined();
    expect(new TemplateProgram(source).render({ ...always, ...scope }, NOW)).toBe(text);
  });

  it.each(refused)("is refused for what it does not mean here: %s", (source) => {
    expect(() => new TemplateProgram(source).render({ ...always, ...scope }, NOW)).toThrow();
  });

  it("names a filter or test that is not supported before it runs", () => {
    expect(() => new TemplateProgram("{% if false %}{{ 'a' | groupby('b') }}{% endif %}")).toThrow('filter "groupby"');
    expect(() => new TemplateProgram("{% macro m() %}{{ 1 is prime }}{% endmacro %}")).toThrow('test "prime"');
  });
});
