import { expect, test } from "vitest";
import { GuardWindow } from "./guard-window.ts";
import { reasonOf } from "./testing/support.ts";

test("looks at the first full window, then every eighth part of one", () => {
  const window = new GuardWindow(64);
  const looks = Array.from({ length: 96 }, (_, i) => (window.push(i, i) === undefined ? [] : [i + 1])).flat();
  expect(looks).toEqual([64, 72, 80, 88, 96]);
});

test("sees the newest tokens alone, in their order", () => {
  const window = new GuardWindow(8);
  const looks = [...[9, 9, 9, 9, 9], ...[1, 2, 3, 4, 5, 6, 7, 8]].map((x) => window.push(x, x));
  expect(looks.at(-1)).toEqual({ entropy: 4.5, repetition: 0 });
  // Once round the ring the oldest token stands in the middle of it: 5 6 7 8 | 5 6 7 8 is a loop of four.
  expect([5, 6, 7, 8].map((x) => window.push(x, x)?.repetition).at(-1)).toBe(1);
});

test("forgets what it is told to", () => {
  const window = new GuardWindow(8);
  for (let i = 0; i < 8; i++) window.push(i, 5);
  window.clear();
  for (let i = 0; i < 7; i++) expect(window.push(i, 1)).toBeUndefined();
  expect(window.push(7, 1)?.entropy).toBe(1);
});

test("an entropy that is none is refused and leaves no trace", () => {
  const window = new GuardWindow(8);
  for (let i = 0; i < 7; i++) window.push(i, 1);
  for (const entropy of [Number.NaN, Number.POSITIVE_INFINITY, -0.1]) {
    expect(reasonOf(() => window.push(7, entropy))).toBe("SCORE_INPUT_INVALID");
  }
  // Rounding below 0 is 0.
  expect(window.push(7, -1e-6)).toEqual({ entropy: 7 / 8, repetition: 0 });
});

test("only windows that a policy may have", () => {
  for (const tokens of [7, 257, 8.5]) expect(() => new GuardWindow(tokens)).toThrow(RangeError);
});
