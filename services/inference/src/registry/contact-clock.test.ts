import { expect, test } from "vitest";
import { ContactClock } from "./contact-clock.ts";

function clockAt(wall: number, steady = 0) {
  const now = { wall, steady };
  return { now, clock: new ContactClock({ wall: () => now.wall, steady: () => now.steady }) };
}

test("nobody knows how long ago a registry was heard that never was", () => {
  expect(clockAt(1000).clock.age()).toBe(Number.POSITIVE_INFINITY);
});

test("the age is what either clock says at most", () => {
  const { now, clock } = clockAt(1_000_000, 500);
  clock.heard();
  expect(clock.age()).toBe(0);
  now.wall += 30;
  now.steady += 20;
  expect(clock.age()).toBe(30);
  // The machine slept: the steady clock stood still.
  now.wall += 86_400_000;
  expect(clock.age()).toBe(86_400_030);
  // Somebody set the clock back.
  now.wall = 0;
  now.steady += 5_000;
  expect(clock.age()).toBe(5_020);
  clock.heard();
  expect(clock.age()).toBe(0);
});

test("the time that the cache says counts on", () => {
  const { now, clock } = clockAt(1_000_000, 77);
  expect(clock.resume(400_000)).toBe(true);
  expect(clock.age()).toBe(600_000);
  now.steady += 10;
  expect(clock.age()).toBe(600_010);
});

test("a time that is yet to come says nothing, unless it is a moment away", () => {
  const { clock } = clockAt(1_000_000);
  expect(clock.resume(1_010_000)).toBe(false);
  expect(clock.age()).toBe(Number.POSITIVE_INFINITY);
  expect(clock.resume(1_002_000)).toBe(true);
  expect(clock.age()).toBe(0);
});
