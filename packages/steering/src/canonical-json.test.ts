import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalJson, type JsonValue } from "./canonical-json.ts";

const canonical = fc.jsonValue({ noUnicodeString: false }).map((value) => JSON.parse(JSON.stringify(value)));

test("says the same as JSON, whatever the order of the keys", () => {
  const reversed = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(reversed);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value)
        .toReversed()
        .map(([key, member]) => [key, reversed(member)]),
    );
  };
  fc.assert(
    fc.property(canonical, (value) => {
      const text = canonicalJson(value);
      expect(JSON.parse(text)).toEqual(value);
      expect(canonicalJson(reversed(value) as JsonValue)).toBe(text);
    }),
  );
});

test("sorts keys by code unit at every depth, and writes no spaces", () => {
  expect(canonicalJson({ b: [1, { z: null, a: true }], a: "ü\n", B: 1e21, ä: 0.1 })).toBe(
    '{"B":1e+21,"a":"ü\\n","b":[1,{"a":true,"z":null}],"ä":0.1}',
  );
});

test("leaves undefined members out", () => {
  expect(canonicalJson({ a: undefined, b: 1 })).toBe('{"b":1}');
});

test.each([Number.NaN, Number.POSITIVE_INFINITY, -0])("refuses %d, which JSON cannot say", (value) => {
  expect(() => canonicalJson([value])).toThrow(TypeError);
});
