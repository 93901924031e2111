import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_STOP_CHARACTERS, MAX_STOPS, StopScanner } from "./stop.ts";

interface Result {
  readonly text: string;
  readonly stop: string | undefined;
}

/** Feed the pieces; what came out, and by which stop string it ended. */
function scan(stops: readonly string[], pieces: readonly string[]): Result {
  const scanner = new StopScanner(stops);
  let text = "";
  for (const piece of pieces) {
    const scanned = scanner.push(piece);
    text += scanned.text;
    if (scanned.kind === "stopped") return { text, stop: scanned.stop };
  }
  return { text: text + scanner.flush(), stop: undefined };
}

/** The definition, word by word: the first prefix of the text that ends in a stop string, cut before the longest one. */
function naive(stops: readonly string[], text: string): Result {
  for (let end = 1; end <= text.length; end++) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length);
    const stop = complete[0];
    if (stop !== undefined) return { text: text.slice(0, end - stop.length), stop };
  }
  return { text, stop: undefined };
}

describe("StopScanner", () => {
  it("cuts before a stop string that arrives in pieces", () => {
    const scanner = new StopScanner(["\nUser:"]);
    expect(scanner.push("Hello")).toEqual({ kind: "open", text: "Hello" });
    expect(scanner.push(" there\n")).toEqual({ kind: "open", text: " there" });
    expect(scanner.push("Us")).toEqual({ kind: "open", text: "" });
    expect(scanner.push("er: I")).toEqual({ kind: "stopped", text: "", stop: "\nUser:" });
    expect(scanner.push("more")).toEqual({ kind: "stopped", text: "", stop: "\nUser:" });
    expect(scanner.flush()).toBe("");
  });

  it("lets go of what turns out not to be a stop string, but no more", () => {
    const scanner = new StopScanner(["aab"]);
    expect(scanner.push("aa")).toEqual({ kind: "open", text: "" });
    expect(scanner.push("a")).toEqual({ kind: "open", text: "a" });
    expect(scanner.push("c")).toEqual({ kind: "open", text: "aac" });
  });

  it("gives the held text back when the stream ends", () => {
    const scanner = new StopScanner(["END"]);
    expect(scanner.push("the EN")).toEqual({ kind: "open", text: "the " });
    expect(scanner.flush()).toBe("EN");
    expect(scanner.flush()).toBe("");
  });

  it("takes the stop string that is complete first, and the longest of those that end together", () => {
    expect(scan(["abcd", "bc"], ["abcd"])).toEqual({ text: "a", stop: "bc" });
    expect(scan(["bc", "abc"], ["xabc"])).toEqual({ text: "x", stop: "abc" });
  });

  it("finds a stop string inside the failed beginning of another", () => {
    expect(scan(["abcabx", "cab"], ["abcaby"])).toEqual({ text: "ab", stop: "cab" });
    expect(scan(["aabaac", "baaa"], ["aabaaac"])).toEqual({ text: "aa", stop: "baaa" });
  });

  it("passes everything through without stop strings", () => {
    expect(new StopScanner([]).push("any text")).toEqual({ kind: "open", text: "any text" });
  });

  it("never lets out half of a character that a stop string begins with", () => {
    const scanner = new StopScanner(["😀!"]);
    expect(scanner.push("a😀")).toEqual({ kind: "open", text: "a" });
    expect(scanner.push("😀?")).toEqual({ kind: "open", text: "😀😀?" });
  });

  it("refuses stop strings that are empty, too many, too long or broken", () => {
    expect(() => new StopScanner([""])).toThrow(/stop string 0 has 0 characters/);
    expect(() => new StopScanner(new Array(MAX_STOPS + 1).fill("x"))).toThrow(/9 stop strings/);
    expect(() => new StopScanner(["ok", "😀".repeat(MAX_STOP_CHARACTERS + 1)])).toThrow(/stop string 1 has 65/);
    expect(() => new StopScanner(["\ud83d"])).toThrow(/surrogate/);
    expect(new StopScanner(["😀".repeat(MAX_STOP_CHARACTERS)]).push("x")).toEqual({ kind: "open", text: "x" });
  });

  // Two letters, so that overlaps and failed beginnings are common.
  const word = (maxLength: number) => fc.string({ unit: fc.constantFrom("a", "b", "é"), minLength: 1, maxLength });
  const stopStrings = fc.array(word(5), { maxLength: 4 });
  const cut = (text: string, cuts: readonly number[]) => {
    const at = [...new Set(cuts.map((c) => c % (text.length + 1)))].sort((a, b) => a - b);
    return [0, ...at].map((start, i) => text.slice(start, at[i] ?? text.length));
  };

  it("agrees with the definition however the text is cut", () => {
    fc.assert(
      fc.property(stopStrings, word(40), fc.array(fc.nat(), { maxLength: 10 }), (stops, text, cuts) => {
        expect(scan(stops, cut(text, cuts))).toEqual(naive(stops, text));
      }),
      { numRuns: 2000 },
    );
  });

  it("holds back exactly the longest end of the text that begins a stop string", () => {
    fc.assert(
      fc.property(stopStrings, word(30), fc.array(fc.nat(), { maxLength: 10 }), (stops, text, cuts) => {
        const scanner = new StopScanner(stops);
        let seen = "";
        let shown = "";
        for (const piece of cut(text, cuts)) {
          const scanned = scanner.push(piece);
          if (scanned.kind === "stopped") return;
          seen += piece;
          shown += scanned.text;
          const longest = Array.from(seen, (_, i) => seen.slice(i)).find((end) => stops.some((s) => s.startsWith(end)));
          expect(shown).toBe(seen.slice(0, seen.length - (longest?.length ?? 0)));
        }
      }),
      { numRuns: 1000 },
    );
  });
});
