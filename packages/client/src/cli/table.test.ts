import { describe, expect, it } from "vitest";
import { fieldList, table } from "./table.ts";

describe("table", () => {
  it("lines columns up by what is seen, numbers on the right", () => {
    const lines = table<{ name: string; tokens: number }>(
      [
        { heading: "NAME", cell: ({ name }) => name },
        { heading: "TOKENS", align: "right", cell: ({ tokens }) => String(tokens) },
        { heading: "NOTE", cell: () => "-" },
      ],
      [
        { name: "陽気", tokens: 7 },
        { name: "cheerful", tokens: 123 },
      ],
    );
    expect(lines).toEqual(["NAME      TOKENS  NOTE", "陽気           7  -", "cheerful     123  -"]);
  });

  it("keeps a row on one line, whatever its cells hold", () => {
    expect(table([{ heading: "A", cell: () => "x\ny" }], [1])).toEqual(["A", "x y"]);
  });

  it("shows the headings of no rows", () => {
    expect(table([{ heading: "A", cell: () => "" }], [])).toEqual(["A"]);
  });
});

describe("fieldList", () => {
  it("puts the values in one column", () => {
    expect(
      fieldList([
        ["layers", "8"],
        ["hidden size", "128"],
      ]),
    ).toEqual(["layers       8", "hidden size  128"]);
  });
});
