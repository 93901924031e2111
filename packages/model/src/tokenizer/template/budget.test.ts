import { describe, expect, it } from "vitest";
import { TemplateProgram } from "./program.ts";

const NOW = new Date(0);
const ns = (start: string, step: string, times = 64) =>
  `{% set ns = namespace(t=${start}) %}{% for i in range(${times}) %}{% set ns.t = ${step} %}{% endfor %}`;
const doubling = ns("'ab'", "ns.t ~ ns.t", 40);

/** Templates that a stranger could put into a checkpoint. */
const ATTACKS: [string, string][] = [
  ["nested loops", `${"{% for a in range(9999) %}".repeat(4)}${"{% endfor %}".repeat(4)}`],
  ["empty loops side by side", "{% for a in range(99999) %}{% endfor %}".repeat(40)],
  ["a huge range", "{% for a in range(1000000000000) %}{% endfor %}"],
  ["a huge range from below", "{{ range(-1000000000000, 0) | length }}"],
  ["many ranges", `${ns("[]", "ns.t + [range(99999)]", 99)}`],
  ["endless recursion", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"],
  ["recursion that forks", "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}"],
  [
    "macros that call each other",
    "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
  ],
  ["a caller that calls itself", "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}"],
  ["doubling by ~", doubling],
  ["doubling by +", ns("'ab'", "ns.t + ns.t")],
  ["doubling by replace", ns("'aa'", "ns.t | replace('a', ns.t)")],
  ["doubling by replace of nothing", ns("'aa'", "ns.t.replace('', ns.t)")],
  ["doubling by join", ns("'aa'", "[ns.t, ns.t, ns.t] | join(ns.t)")],
  ["doubling by the method join", ns("'aa'", "ns.t.join([ns.t, ns.t])")],
  ["repetition", "{{ 'x' * 1000000000000 }}"],
  ["repetition of a list", "{{ [1] * 1000000000000 }}"],
  ["repetition again and again", ns("'x'", "ns.t * 1000")],
  ["quotes in quotes", ns("'\"'", "ns.t | tojson")],
  ["lists in quotes", ns("['\\\\']", "[ns.t | string, ns.t | string]")],
  ["doubling a list", ns("[1, 2]", "ns.t + ns.t")],
  ["a list of lists of lists, as JSON", `${ns("[1]", "[ns.t, ns.t]")}{{ ns.t | tojson }}`],
  ["a list of lists of lists, printed", `${ns("[1]", "[ns.t, ns.t]")}{{ ns.t }}`],
  [
    "two lists of lists of lists, compared",
    `${ns("[1]", "[ns.t, ns.t]")}{% set a = ns.t %}${ns("[1]", "[ns.t, ns.t]")}{{ a == ns.t }}`,
  ],
  [
    "a list of lists of lists, looked for",
    `${ns("[1]", "[ns.t, ns.t]")}{% set a = ns.t %}${ns("[1]", "[ns.t, ns.t]")}{{ a in [ns.t] }}`,
  ],
  ["a list as deep as it goes", `${ns("[]", "[ns.t]", 9999)}{{ ns.t | tojson }}`],
  ["a wide indent", "{{ {'a': 1} | tojson(indent=400000000) }}"],
  ["a wide indent of many lines", "{{ range(90000) | list | tojson(indent=90000) }}"],
  ["an indent of a text", "{{ ('\\n' * 100000) | indent(100000) }}"],
  ["a long separator", "{{ range(90000) | join('x' * 90000) }}"],
  ["much text in small pieces", "{% for a in range(99999) %}{{ text }}{% endfor %}"],
  ["much text, caught and dropped", "{% for a in range(99999) %}{% set t %}{{ text }}{% endset %}{% endfor %}"],
  ["much text, only made", "{% for a in range(99999) %}{% if text ~ a == '' %}{% endif %}{% endfor %}"],
  ["a text read again and again", `${ns("text * 300", "ns.t", 2)}{% for a in range(99999) %}{{ ns.t[a] }}{% endfor %}`],
  [
    "a text stripped again and again",
    `{% set t = ' ' * 5000000 ~ 'x' %}{% for a in range(9999) %}{% if t.strip() == '' %}{% endif %}{% endfor %}`,
  ],
  [
    "a list sorted again and again",
    "{% for a in range(9999) %}{% set x = range(9999) | sort(reverse=true) %}{% endfor %}",
  ],
  [
    "arguments without end",
    "{% macro f() %}{{ varargs | length }}{% endmacro %}{% for a in range(999) %}{{ f(*range(99999)) }}{% endfor %}",
  ],
];

describe("a template that goes on for ever", () => {
  it.each(ATTACKS)("is stopped: %s", (_, source) => {
    const program = new TemplateProgram(source);
    const before = process.memoryUsage();
    const start = performance.now();
    expect(() => program.render({ text: "hello ".repeat(2000) }, NOW)).toThrow(
      expect.objectContaining({ reason: "CHAT_TEMPLATE_LIMIT" }),
    );
    // Most take a few milliseconds. The budget stops them, before the time limit has to.
    expect(performance.now() - start).toBeLessThan(2900);
    const after = process.memoryUsage();
    expect(after.rss - before.rss).toBeLessThan(600e6);
  });

  it.each([
    ["white space before a tag that is none", `${" ".repeat(200_000)}x`],
    ["brackets in brackets", `{{ ${"(".repeat(100_000)} }}`],
    ["lists in lists", `{{ ${"[".repeat(100_000)} }}`],
    ["blocks in blocks", "{% if a %}".repeat(20_000)],
    ["a sum without end", `{{ 1${" + 1".repeat(60_000)} }}`],
    ["nots", `{{ ${"not ".repeat(60_000)} a }}`],
    ["filters of filters", `{{ a${" | trim".repeat(30_000)} }}`],
    ["a tag that never ends", "{% set a = '".concat("x".repeat(250_000))],
    ["comments that never end", "{#".repeat(120_000)],
  ])("or takes for ever to parse is refused or read in bounded time: %s", (_, source) => {
    const start = performance.now();
    try {
      new TemplateProgram(source).render({}, NOW);
    } catch (error) {
      expect(error).toBeInstanceOf(Error);
    }
    expect(performance.now() - start).toBeLessThan(5000);
  });
});

describe("a template that does much, but not too much", () => {
  it("renders a chat of ten thousand messages", () => {
    const source =
      "{% for m in messages %}{{ '<|' ~ m.role ~ '|>' }}{% if loop.last %}!{% endif %}{{ m.content | trim }}{% endfor %}";
    const messages = Array.from({ length: 10_000 }, (_, i) => ({ role: "user", content: ` message ${i} ` }));
    const text = new TemplateProgram(source).render({ messages }, NOW);
    expect(text.startsWith("<|user|>message 0<|user|>message 1<")).toBe(true);
    expect(text.endsWith("!message 9999")).toBe(true);
  });

  it("renders a message as long as a text may be", () => {
    const content = "é".repeat(4 * 1024 * 1024);
    const source = "{{ bos }}{% set c = messages[0].content | trim %}{{ 'x ' + c + eos }}";
    expect(new TemplateProgram(source).render({ messages: [{ content }], bos: "<", eos: ">" }, NOW)).toHaveLength(
      content.length + 4,
    );
  });
});
