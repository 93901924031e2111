import { expect, it } from "vitest";
import { heatLegend, paintHeat, shadeOf, signed } from "./heat.ts";

it.each([
  [0, 0],
  [0.049, 0],
  [-0.049, 0],
  [0.051, 1],
  [-0.051, -1],
  [0.349, 3],
  [0.36, 4],
  [9, 4],
  [-9, -4],
  [Number.NaN, 0],
  [Number.POSITIVE_INFINITY, 4],
])("a projection of %f has the shade %i", (projection, shade) => {
  expect(shadeOf(projection)).toBe(shade);
});

it("colours text line by line, and leaves neutral text as it is", () => {
  const painted = paintHeat("one\ntwo", 0.2);
  // Whatever is opened in a line is closed in it.
  const line = (word: string) => `\u001b[48;5;216;38;5;16m${word}\u001b[49;39m`;
  expect(painted).toBe(`${line("one")}\n${line("two")}`);
  expect(paintHeat("one", 0.01)).toBe("one");
  expect(paintHeat("one", undefined)).toBe("one");
  expect(paintHeat("one", -0.2)).not.toBe(painted);
});

it("the legend names the layer and every shade, with colours or without", () => {
  const plain = heatLegend(3, false);
  expect(plain).toContain("layer 3");
  expect(plain.match(/[−+]?\d\.\d/g)).toEqual(["−0.4", "−0.3", "−0.2", "−0.1", "0.0", "+0.1", "+0.2", "+0.3", "+0.4"]);
  expect(plain).not.toContain("\u001b");
  expect(heatLegend(3, true).match(/48;5;\d+/g)).toHaveLength(8);
});

it("numbers have their sign, and nothing has none", () => {
  expect([signed(0.25, 2), signed(-0.25, 2), signed(-0.001, 2), signed(0, 1)]).toEqual([
    "+0.25",
    "−0.25",
    "0.00",
    "0.0",
  ]);
});
