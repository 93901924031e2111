import { expect, test } from "vitest";
import { isTwinned } from "./twin-draw.ts";

const ids = Array.from({ length: 20_000 }, (_, i) => `request-${i}/1`);

test.each([100, 2500, 9000])("of many requests a share of %d basis points is drawn", (share) => {
  const drawn = ids.filter((id) => isTwinned(id, share)).length;
  const expected = (ids.length * share) / 10_000;
  // Four standard deviations.
  expect(Math.abs(drawn - expected)).toBeLessThan(4 * Math.sqrt(expected * (1 - share / 10_000)));
});

test("none and all are none and all, and a larger share holds the smaller one", () => {
  for (const id of ids.slice(0, 500)) {
    expect([isTwinned(id, 0), isTwinned(id, 10_000)]).toEqual([false, true]);
    if (isTwinned(id, 1000)) expect(isTwinned(id, 2000)).toBe(true);
    expect(isTwinned(id, 1000)).toBe(isTwinned(id, 1000));
  }
});
