import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { transposeColumns } from "./transpose.ts";

describe("transposeColumns", () => {
  const extent = fc.record({ rows: fc.integer({ min: 1, max: 37 }), columns: fc.integer({ min: 1, max: 19 }) });
  it("turns any range of columns of any matrix, and writes nothing else", () => {
    fc.assert(
      fc.property(extent, fc.nat(), fc.nat(), fc.boolean(), ({ rows, columns }, a, b, wide) => {
        const from = a % columns;
        const to = from + 1 + (b % (columns - from));
        const make = (length: number) => (wide ? new Uint32Array(length) : new Uint16Array(length));
        const source = make(rows * columns).map((_, i) => 1 + i);
        const target = make((to - from) * rows + 1);
        transposeColumns(source, { rows, columns }, { from, to }, target);
        const expected = Array.from({ length: (to - from) * rows }, (_, i) => {
          const [column, row] = [from + Math.floor(i / rows), i % rows];
          return 1 + row * columns + column;
        });
        expect([...target]).toEqual([...expected, 0]);
      }),
    );
  });
});
