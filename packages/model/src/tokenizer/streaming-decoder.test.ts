import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { fixture, TOKENIZER_FIXTURES } from "../testing/tokenizer-fixture.ts";
import { StreamingDecoder } from "./streaming-decoder.ts";

/** No half character: neither half of a surrogate pair alone, nor U+FFFD that the text does not have. */
const isWhole = (text: string) => text.isWellFormed();

describe.each(TOKENIZER_FIXTURES)("streaming decoder, %s", (name) => {
  const { tokenizer, reference } = fixture(name);

  it("gives the reference's text, in whole characters, one token at a time", () => {
    for (const { ids, decoded } of reference.cases) {
      const decoder = new StreamingDecoder(tokenizer);
      const deltas = [...ids.map((id) => decoder.push(id)), decoder.flush()];
      expect(deltas.join("")).toBe(decoded);
      for (const delta of deltas) {
        expect(isWhole(delta)).toBe(true);
        if (!decoded.includes("\ufffd")) expect(delta).not.toContain("\ufffd");
      }
    }
  });

  it("gives what decode gives for any tokens, also those that are not text", () => {
    const token = fc.integer({ min: 0, max: tokenizer.vocabularySize - 1 });
    fc.assert(
      fc.property(fc.array(token, { maxLength: 40 }), fc.boolean(), (ids, skipSpecial) => {
        const decoder = new StreamingDecoder(tokenizer, { skipSpecial });
        const deltas = [...ids.map((id) => decoder.push(id)), decoder.flush()];
        expect(deltas.every(isWhole)).toBe(true);
        expect(deltas.join("")).toBe(tokenizer.decode(ids, { skipSpecial }));
      }),
      { numRuns: 500 },
    );
  });

  it("round-trips any text", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 60 }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
      { numRuns: 200 },
    );
  });
});

describe("streaming decoder", () => {
  const { tokenizer } = fixture("byte-level");

  it("holds back a character until its last byte is there", () => {
    const decoder = new StreamingDecoder(tokenizer);
    // U+20BB7 is not in the vocabulary: one token for each of its four bytes.
    const ids = tokenizer.encode("𠮷");
    expect(ids).toHaveLength(4);
    expect(ids.map((id) => decoder.push(id))).toEqual(["", "", "", "𠮷"]);
    expect(decoder.flush()).toBe("");
  });

  it("shows a character that was cut off as U+FFFD at the end, and starts anew", () => {
    const decoder = new StreamingDecoder(tokenizer);
    const [first, second] = tokenizer.encode("𠮷") as [number, number];
    expect(decoder.push(first) + decoder.push(second)).toBe("");
    expect(decoder.flush()).toBe("\ufffd");
    expect(decoder.push(tokenizer.encode("a")[0] as number)).toBe("a");
  });

  it("gives up on a character as soon as the next token cannot continue it", () => {
    const decoder = new StreamingDecoder(tokenizer);
    const [first] = tokenizer.encode("𠮷") as [number];
    expect(decoder.push(first)).toBe("");
    expect(decoder.push(tokenizer.encode("a")[0] as number)).toBe("\ufffda");
  });

  it("leaves control tokens out, or shows them on request", () => {
    const end = tokenizer.controlTokens.get("<|end|>") as number;
    expect(new StreamingDecoder(tokenizer).push(end)).toBe("");
    expect(new StreamingDecoder(tokenizer, { skipSpecial: false }).push(end)).toBe("<|end|>");
  });

  it("keeps a byte order mark, at the start too", () => {
    expect(tokenizer.decode(tokenizer.encode("\ufeffa\ufeff"))).toBe("\ufeffa\ufeff");
  });

  it.each([-1, 600.5, 100_000, Number.NaN])("refuses token %d", (id) => {
    expect(() => new StreamingDecoder(tokenizer).push(id)).toThrow(
      expect.objectContaining({ reason: "TOKEN_OUT_OF_RANGE" }),
    );
  });
});
