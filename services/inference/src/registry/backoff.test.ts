import { expect, test } from "vitest";
import { Backoff } from "./backoff.ts";

test("the bound doubles up to its limit and begins again after a success", () => {
  const backoff = new Backoff({ first: 100, most: 500 }, () => 0.5);
  expect([backoff.next(), backoff.next(), backoff.next(), backoff.next(), backoff.next()]).toEqual([
    50, 100, 200, 250, 250,
  ]);
  backoff.reset();
  expect(backoff.next()).toBe(50);
});

test("the whole range below the bound is used", () => {
  const waits = Array.from({ length: 200 }, () => new Backoff({ first: 100, most: 100 }).next());
  expect(Math.min(...waits)).toBeLessThan(20);
  expect(Math.max(...waits)).toBeGreaterThan(80);
  expect(Math.max(...waits)).toBeLessThan(100);
});
