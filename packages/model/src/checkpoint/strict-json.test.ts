import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseStrictJson } from "./strict-json.ts";

describe("parseStrictJson", () => {
  it("parses what JSON.parse parses, for any value", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), fc.nat({ max: 3 }), (value, indent) => {
        const text = JSON.stringify(value, null, indent);
        expect(parseStrictJson(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it("refuses a key given twice, at any depth and in any spelling, and names it", () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), fc.nat({ max: 5 }), (object, key, depth) => {
        const { [key]: _, ...rest } = object;
        const name = JSON.stringify(key);
        const spelled = name.replace(/[a-z]/g, (c) => (depth % 2 ? `\\u00${c.charCodeAt(0).toString(16)}` : c));
        const others = JSON.stringify(rest).slice(1, -1);
        const inner = `{${name}:1,${others}${others && ","}${spelled}:{"a":2}}`;
        const text = `${'[{"x":'.repeat(depth)}${inner}${"}]".repeat(depth)}`;
        // An escape that was a part of another escape may no longer be one.
        fc.pre(isJson(text));
        fc.pre(depth % 2 === 0 || JSON.parse(spelled) === key);
        expect(() => parseStrictJson(text)).toThrow(`key ${name} appears twice`);
      }),
    );
  });

  it("takes the same key in different objects, and keys that objects have anyway", () => {
    const text = '{"a":{"a":1},"b":[{"a":1},{"a":2}],"__proto__":{"a":1},"constructor":{}}';
    expect(JSON.stringify(parseStrictJson(text))).toBe(text);
  });

  it("is not misled by colons, quotes and brackets in strings", () => {
    const text = '{"a:b":"c:\\"d\\\\","e{[":["f:\\\\\\"g:","]}"],"h\\\\":1}';
    expect(parseStrictJson(text)).toEqual(JSON.parse(text));
  });

  it("refuses absurd nesting", () => {
    expect(() => parseStrictJson(`${"[".repeat(65)}${"]".repeat(65)}`)).toThrow("nested deeper than 64");
    expect(parseStrictJson(`${"[".repeat(64)}${"]".repeat(64)}`)).toBeDefined();
    expect(() => parseStrictJson(`${"[".repeat(1_000_000)}${"]".repeat(1_000_000)}`)).toThrow();
  });

  it("refuses more values than it was told to expect, before it makes them", () => {
    const millions = `[${"[],".repeat(5_000_000)}[]]`;
    expect(() => parseStrictJson(millions)).toThrow("more than 4000000 values");
    expect(parseStrictJson("[1,{},3]", 6)).toEqual([1, {}, 3]);
    expect(() => parseStrictJson("[1,{},3]", 4)).toThrow("more than 4 values");
  });

  it.each([
    ["whitespace", `${" ".repeat(10_000_000)}{}`],
    ["digits", `{"a":${"9".repeat(10_000_000)}}`],
    ["escaped quotes", `{"a":"${'\\"'.repeat(5_000_000)}"}`],
    ["backslashes", `{"a":"${"\\\\".repeat(5_000_000)}"}`],
  ])("takes 10 MB of %s in its stride", (_, text) => {
    const start = performance.now();
    expect(parseStrictJson(text)).toBeTypeOf("object");
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it("names keys of any length in few words", () => {
    const key = "k".repeat(1_000_000);
    expect(() => parseStrictJson(`{"${key}":1,"${key}":2}`)).toThrow(/^key "k{100,200}… appears twice$/);
  });

  it.each(["", "{", '"', '{"a', '"\\\\\\"', '{"a":}', "{'a':1}", "nul"])("refuses what is not JSON: %j", (text) => {
    expect(() => parseStrictJson(text)).toThrow(SyntaxError);
  });
});

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
