import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { displayWidth, padEnd, padStart, printable, sideBySide, truncate, wrap } from "./text-layout.ts";

describe("wrap", () => {
  it("breaks between words and keeps the breaks that are there", () => {
    expect(wrap("the quick brown fox\n\njumps", 10)).toEqual(["the quick", "brown fox", "", "jumps"]);
  });

  it("breaks a word that is too long for a line", () => {
    expect(wrap("a abcdefghij b", 4)).toEqual(["a", "abcd", "efgh", "ij b"]);
  });

  it("counts wide characters as two columns, and breaks CJK text anywhere between words", () => {
    expect(displayWidth("日本語")).toBe(6);
    const lines = wrap("私は日本語を話します", 8);
    expect(lines.join("")).toBe("私は日本語を話します");
    for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(8);
  });

  it("never splits an emoji of several code points", () => {
    const family = "👩‍👩‍👧";
    expect(wrap(family.repeat(5), 4)).toEqual([family.repeat(2), family.repeat(2), family]);
  });

  it("never exceeds the width and loses no visible character, whatever the text", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 120 }).map(printable);
    fc.assert(
      fc.property(text, fc.integer({ min: 2, max: 40 }), (value, width) => {
        const lines = wrap(value, width);
        // A few characters, such as notes with their stems, are wider than a narrow line.
        const single = (line: string) => [...new Intl.Segmenter().segment(line)].length === 1;
        for (const line of lines) if (!single(line)) expect(displayWidth(line)).toBeLessThanOrEqual(width);
        const visible = (part: string) => part.replace(/\s/gu, "");
        expect(visible(lines.join(""))).toBe(visible(value));
      }),
    );
  });
});

describe("columns", () => {
  it("puts texts side by side within the width", () => {
    const lines = sideBySide(
      [
        { title: "steered", text: "Wonderful news! 🎉 Your parcel is on its way." },
        { title: "unsteered", text: "包裹正在运送途中。" },
      ],
      43,
    );
    expect(lines).toMatchInlineSnapshot(`
      [
        "steered              │ unsteered",
        "─────────────────────┼─────────────────────",
        "Wonderful news! 🎉   │ 包裹正在运送途中。",
        "Your parcel is on    │",
        "its way.             │",
      ]
    `);
    for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(43);
    expect(new Set(lines.slice(2).map((line) => displayWidth(line.slice(0, line.indexOf("│")))))).toEqual(
      new Set([21]),
    );
  });
});

describe("fitting", () => {
  it("pads and cuts by display columns", () => {
    expect(padEnd("日本", 6)).toBe("日本  ");
    expect(padStart("日本", 5)).toBe(" 日本");
    expect(truncate("日本語です", 6)).toBe("日本…");
    expect(truncate("short", 6)).toBe("short");
  });
});

describe("printable", () => {
  it("shows control characters instead of sending them to the terminal", () => {
    expect(printable("a\u001b[31mred\u0007\u009b2J\u007f\rb\tc\n")).toBe("a␛[31mred␇\ufffd2J␡␍b\tc\n");
  });

  it("shows characters that would turn the direction of the line", () => {
    expect(printable("safe\u202efdp.exe")).toBe("safe\ufffdfdp.exe");
  });

  it("leaves text of any script alone", () => {
    const text = "Grüße, 世界! مرحبا 👩‍👩‍👧";
    expect(printable(text)).toBe(text);
  });
});
