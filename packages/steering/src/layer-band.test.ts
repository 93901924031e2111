import { expect, test } from "vitest";
import { middleBand } from "./layer-band.ts";

test("of 32 layers is the article's target zone", () => {
  expect(middleBand(32)).toEqual([15, 16, 17, 18, 19, 20]);
});

test("of any model has a layer, lies within the model, and is never the last block", () => {
  expect(middleBand(1)).toEqual([0]);
  for (let layers = 2; layers <= 200; layers++) {
    const band = middleBand(layers);
    expect(band.length).toBeGreaterThan(0);
    expect(band[0]).toBeGreaterThanOrEqual(0);
    expect(band.at(-1)).toBeLessThan(layers - 1);
  }
});
