import { expect, test } from "vitest";
import { Session } from "./session.ts";
import { Tensor } from "./tensor.ts";
import { affine, affineGraph, slowGraph } from "./testing/graphs.ts";

const SHAPE = [64, 256];
const ELEMENTS = 64 * 256;

/** A session whose run takes about a second, and its binding. */
function slow(steps: number) {
  const session = Session.loadSync(slowGraph(steps), { optimization: "none", intraOpThreads: 1 });
  const y = new Float32Array(ELEMENTS);
  const x = new Float32Array(ELEMENTS).fill(5);
  const binding = session.bind({
    inputs: { x: Tensor.from("float32", SHAPE, x) },
    outputs: { y: Tensor.from("float32", SHAPE, y) },
  });
  return { session, binding, x, y };
}

/** Let the event loop turn until native code has had `milliseconds` to get going. */
async function turns(milliseconds: number): Promise<void> {
  const start = performance.now();
  while (performance.now() - start < milliseconds) await new Promise((resolve) => setImmediate(resolve));
}

test("a run leaves this thread free", async () => {
  const { session, binding } = slow(400);
  let done = false;
  let turned = 0;
  const running = session.run(binding).then(() => {
    done = true;
  });
  for (; !done; turned++) await new Promise((resolve) => setImmediate(resolve));
  await running;
  expect(turned).toBeGreaterThan(20);
  session.close();
});

test("an aborted signal ends a run in flight soon, and binding and session work afterwards", async () => {
  const { session, binding, x, y } = slow(2000);
  const start = performance.now();
  await session.run(binding);
  const whole = performance.now() - start;

  for (let round = 0; round < 3; round++) {
    const controller = new AbortController();
    const running = session.run(binding, { signal: controller.signal });
    await turns(5);
    const aborted = performance.now();
    controller.abort(new Error("client went away"));
    const error = await running.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: "OnnxRuntimeError", code: "CANCELLED" });
    expect((error as Error).cause).toMatchObject({ message: "client went away" });
    expect(performance.now() - aborted).toBeLessThan(whole / 2);
  }

  x.fill(7);
  await session.run(binding, { signal: new AbortController().signal });
  expect(y.every((value) => Math.abs(value - 7) < 1e-2)).toBe(true);
  session.close();
});

test("a signal that is aborted before the run keeps it from starting", async () => {
  using session = Session.loadSync(affineGraph());
  const y = new Float32Array(3).fill(-1);
  using x = Tensor.from("float32", [1, 4], new Float32Array(4));
  using output = Tensor.from("float32", [1, 3], y);
  using binding = session.bind({ inputs: { x }, outputs: { y: output } });
  await expect(session.run(binding, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "CANCELLED" });
  expect([...y]).toEqual([-1, -1, -1]);
  await session.run(binding);
  expect([...y]).toEqual([0, 0, 0]);
});

test("cancelling one run leaves another of the same session alone", async () => {
  const { session, binding } = slow(1000);
  const y = new Float32Array(ELEMENTS);
  const other = session.bind({
    inputs: { x: Tensor.from("float32", SHAPE, new Float32Array(ELEMENTS).fill(9)) },
    outputs: { y: Tensor.from("float32", SHAPE, y) },
  });
  const controller = new AbortController();
  const cancelled = session.run(binding, { signal: controller.signal });
  const kept = session.run(other, { signal: new AbortController().signal });
  await turns(5);
  controller.abort();
  await expect(cancelled).rejects.toMatchObject({ code: "CANCELLED" });
  await kept;
  expect(y.every((value) => Math.abs(value - 9) < 1e-2)).toBe(true);
  session.close();
});

test("many runs of two sessions at once each give their own result", async () => {
  using first = await Session.load(affineGraph());
  using second = await Session.load(affineGraph());
  const runs = Array.from({ length: 64 }, async (_, index) => {
    const session = index % 2 === 0 ? first : second;
    const row = [index, 1, -index, index / 4];
    const x = Float32Array.from(row);
    const y = new Float32Array(3);
    using input = Tensor.from("float32", [1, 4], x);
    using output = Tensor.from("float32", [1, 3], y);
    using binding = session.bind({ inputs: { x: input }, outputs: { y: output } });
    for (let round = 0; round < 20; round++) {
      y.fill(0);
      await session.run(binding);
      expect([...y]).toEqual(affine(row));
    }
  });
  await Promise.all(runs);
});

test("more runs at once than the native queue takes are an error of that run, not a crash", async () => {
  using session = await Session.load(affineGraph());
  using x = Tensor.from("float32", [1, 4], new Float32Array(4));
  const bindings = Array.from({ length: 600 }, () => session.bind({ inputs: { x }, outputs: { y: null } }));
  const results = await Promise.allSettled(bindings.map((binding) => session.run(binding)));
  const failures = results.filter((result) => result.status === "rejected");
  expect(failures.length).toBeGreaterThan(0);
  expect(failures.length).toBeLessThan(600);
  for (const { reason } of failures) expect(reason).toMatchObject({ name: "OnnxRuntimeError", code: "BUSY" });
  for (const binding of bindings) await session.run(binding);
});
