import { expect, test } from "vitest";
import { EventQueue } from "./event-queue.ts";
import { interleave } from "./interleave.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

test("events come as they happen, each with its source, until every source has ended", async () => {
  const [first, second] = [new EventQueue<string>(), new EventQueue<string>()];
  const seen: string[] = [];
  const reading = (async () => {
    for await (const [source, event] of interleave([first, second])) seen.push(`${source}:${event}`);
  })();
  for (const [queue, event] of [
    [second, "a"],
    [first, "b"],
    [second, "c"],
  ] as const) {
    queue.push(event);
    await turn();
  }
  expect(seen).toEqual(["1:a", "0:b", "1:c"]);
  second.end();
  await turn();
  first.push("d");
  first.end();
  await reading;
  expect(seen).toEqual(["1:a", "0:b", "1:c", "0:d"]);
});

test("the failure of one ends all, after what was there before it; a second failure has no reader and is no error", async () => {
  const [first, second] = [new EventQueue<string>(), new EventQueue<string>()];
  const reader = interleave([first, second]);
  first.push("a");
  expect(await reader.next()).toEqual({ done: false, value: [0, "a"] });
  second.push("b");
  second.fail(new Error("first"));
  await turn();
  first.fail(new Error("second"));
  await turn();
  expect(await reader.next()).toEqual({ done: false, value: [1, "b"] });
  await expect(reader.next()).rejects.toThrow("first");
});
