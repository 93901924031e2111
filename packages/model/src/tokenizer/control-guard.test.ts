import { describe, expect, it } from "vitest";
import { fixture } from "../testing/tokenizer-fixture.ts";
import { ControlGuard } from "./control-guard.ts";

const guard = new ControlGuard(["<|end|>", "<|endless|>", "\n<turn>\n", "§"]);
const mark = (text: string) => guard.mark(text, "^");

describe("ControlGuard", () => {
  it.each([
    ["hello world", "hello world"],
    ["", ""],
    ["   ", "   "],
    // Whole tokens, also side by side and in the white space at the end.
    ["a<|end|>b", "a<^|end|>b"],
    ["<|end|><|end|>", "<^|end|><^|end|>"],
    ["a\n<turn>\nb", "a\n^<turn>\nb"],
    ["a § b", "a ^§^ b"],
    ["a\n<turn>\n", "a\n^<turn>\n"],
    // A beginning counts at the end of the text only, with or without the white space after it.
    ["a <| b", "a <| b"],
    ["a <|", "a <^|"],
    ["a <| \n", "a <^| \n"],
    ["a<|endl", "a<^|endl"],
    ["a<|endx", "a<|endx"],
    // An end counts at the start only, with or without the white space before it.
    ["end|> a", "^end|> a"],
    [" \n|>", " \n^|>"],
    ["a end|>", "a end|>"],
    // A middle is the whole text.
    ["end", "^end"],
    [" en ", " ^en "],
  ])("marks %j as %j", (text, marked) => {
    expect(mark(text)).toBe(marked);
  });

  it("chooses a mark that no text contains", () => {
    expect(guard.chooseMark(["a", "b"])).toBe("\ufdd0");
    expect(guard.chooseMark(["a\ufdd0", "\ufdd1"])).toBe("\ufdd2");
  });

  it("keeps a control token of one character apart by a mark before it", () => {
    const { tokenizer, chatTemplate } = fixture("byte-level", (file) => {
      (file["added_tokens"] as object[]).push({ id: 600, content: "\u2182", special: true, normalized: false });
    });
    expect(chatTemplate.render([{ role: "user", content: "a \u2182 b" }]).ids).not.toContain(600);
    expect(tokenizer.encode("a \u2182 b")).not.toContain(600);
    expect(tokenizer.encode("a \u2182 b", { controlTokens: "tokens" })).toContain(600);
  });

  it("drops its marks before words are split: marked text gives the tokens of the text", () => {
    for (const name of ["byte-level", "byte-level-rule", "byte-fallback"] as const) {
      const { tokenizer } = fixture(name);
      for (const text of ["The order has been shipped.", "12345", "日本語 😀", "  x\n\ny"]) {
        for (let at = 1; at < text.length; at++) {
          if (!text.slice(0, at).isWellFormed()) continue;
          expect(tokenizer.encodeMarked(`${text.slice(0, at)}\ufdd0${text.slice(at)}`, "\ufdd0")).toEqual(
            tokenizer.encode(text),
          );
        }
      }
    }
  });
});
