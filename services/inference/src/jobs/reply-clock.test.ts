import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ReplyClock } from "./reply-clock.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
});

afterEach(() => {
  vi.useRealTimers();
});

test("the time without a slot counts from the first step on: before, a reply that gave its slot up still waits", () => {
  const clock = new ReplyClock();
  const queued = performance.now();
  clock.queue();
  clock.preempt();
  vi.advanceTimersByTime(100);
  clock.resume();
  clock.start();
  expect(clock.times()).toMatchObject({ queued, started: queued + 100, preemptedMillis: 0 });
  clock.preempt();
  vi.advanceTimersByTime(30);
  clock.resume();
  clock.firstToken();
  clock.preempt();
  vi.advanceTimersByTime(7);
  // It ends without going on.
  clock.end();
  vi.advanceTimersByTime(1000);
  expect(clock.times()).toMatchObject({ firstToken: queued + 130, ended: queued + 137, preemptedMillis: 37 });
});
