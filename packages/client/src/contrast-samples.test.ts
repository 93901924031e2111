import { describe, expect, it } from "vitest";
import { parseBaseline, parsePairs } from "./contrast-samples.ts";

const pair = { prompt: "p", positive: "yes", negative: "no" };

describe("parsePairs", () => {
  it("reads a file of one concept", () => {
    expect(parsePairs({ pairs: [pair, { ...pair, system: "s" }] }, undefined, "f")).toEqual([
      pair,
      { ...pair, system: "s" },
    ]);
  });

  it("reads one tone of a file of several, and looks at no other", () => {
    const file = { tones: { cheerful: { pairs: [pair] }, broken: 1 } };
    expect(parsePairs(file, "cheerful", "f")).toEqual([pair]);
  });

  it.each([
    ["no tone is chosen", { tones: { cheerful: { pairs: [pair] }, formal: {} } }, undefined, /cheerful, formal/],
    ["the tone is unknown", { tones: { cheerful: { pairs: [pair] } } }, "formal", /no tone "formal"; it has: cheerful/],
    ["the tone is a property of every object", { tones: {} }, "constructor", /no tone "constructor"/],
    ["a tone is chosen where there are none", { pairs: [pair] }, "cheerful", /holds one concept/],
    ["there are no pairs", { pairs: [] }, undefined, /f, pairs: /],
    ["a side is missing", { pairs: [pair, { prompt: "p", positive: "x" }] }, undefined, /f, pairs\.1\.negative: /],
    ["a side is empty", { pairs: [{ ...pair, positive: "" }] }, undefined, /f, pairs\.0\.positive: /],
    ["a text is longer than any context", { pairs: [{ ...pair, prompt: "x".repeat(70_000) }] }, undefined, /prompt/],
    ["it is a list", [pair], undefined, /FILE_INVALID|f, the whole: /],
  ])("says what is wrong when %s", (_, file, tone, message) => {
    expect(() => parsePairs(file, tone, "f")).toThrow(expect.objectContaining({ reason: "FILE_INVALID" }));
    expect(() => parsePairs(file, tone, "f")).toThrow(message);
  });
});

describe("parseBaseline", () => {
  it("reads samples and ignores what else they carry", () => {
    const samples = [{ prompt: "p", response: "r", topic: "parcels" }];
    expect(parseBaseline({ samples }, "f")).toEqual([{ prompt: "p", response: "r" }]);
  });

  it("names the field that is wrong", () => {
    expect(() => parseBaseline({ samples: [{ prompt: "p" }] }, "f")).toThrow(/f, samples\.0\.response: /);
  });
});
