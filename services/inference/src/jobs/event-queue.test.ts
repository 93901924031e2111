import { expect, test } from "vitest";
import { EventQueue } from "./event-queue.ts";

async function read<Event>(queue: EventQueue<Event>): Promise<Event[]> {
  const events: Event[] = [];
  for await (const event of queue) events.push(event);
  return events;
}

test("a reader gets what was there before it came and what comes later, in order, to the end", async () => {
  const queue = new EventQueue<number>();
  queue.push(1);
  queue.push(2);
  const all = read(queue);
  await Promise.resolve();
  queue.push(3);
  await new Promise((resolve) => setImmediate(resolve));
  queue.push(4);
  queue.push(5);
  queue.end();
  expect(await all).toEqual([1, 2, 3, 4, 5]);
});

test("a failure comes after what was there before it, and the first end is the end", async () => {
  const queue = new EventQueue<number>();
  queue.push(1);
  queue.fail(new Error("first"));
  queue.fail(new Error("second"));
  queue.end();
  const reader = queue[Symbol.asyncIterator]();
  expect(await reader.next()).toEqual({ done: false, value: 1 });
  await expect(reader.next()).rejects.toThrow("first");
  expect(await reader.next()).toEqual({ done: true, value: undefined });
});

test("a reader that waits hears of the end", async () => {
  for (const [close, expected] of [
    [(queue: EventQueue<number>) => queue.end(), "ended"],
    [(queue: EventQueue<number>) => queue.fail(new Error("boom")), "boom"],
  ] as const) {
    const queue = new EventQueue<number>();
    const over = read(queue).then(
      () => "ended",
      (error: Error) => error.message,
    );
    await new Promise((resolve) => setImmediate(resolve));
    close(queue);
    expect(await over).toBe(expected);
  }
});
