import { afterAll, expect, test } from "vitest";
import { liveHandles } from "./handle.ts";
import { Session } from "./session.ts";
import { Tensor } from "./tensor.ts";
import { affine, affineGraph, identityGraph, slowGraph } from "./testing/graphs.ts";

const session = Session.loadSync(affineGraph());
afterAll(() => session.close());

function tensors(rows: number, fill = 1) {
  const x = new Float32Array(rows * 4).fill(fill);
  const y = new Float32Array(rows * 3);
  return { x, y, X: Tensor.from("float32", [rows, 4], x), Y: Tensor.from("float32", [rows, 3], y) };
}

test("a binding runs again and again over what its arrays hold then", async () => {
  const { x, y, X, Y } = tensors(1);
  using binding = session.bind({ inputs: { x: X }, outputs: { y: Y } });
  for (const row of [
    [1, 2, 3, 4],
    [0, -1, 0.5, 8],
  ]) {
    x.set(row);
    await session.run(binding);
    expect([...y]).toEqual(affine(row));
    x.fill(0);
    session.runSync(binding);
    expect([...y]).toEqual([0, 0, 0]);
  }
});

test("outputs left to the runtime are read after each run, and only outputs that are bound", async () => {
  const { x, X } = tensors(2);
  using binding = session.bind({ inputs: { x: X }, outputs: { z: null } });
  expect(() => binding.read("z")).toThrow("INVALID_ARGUMENT");
  for (const fill of [1, 3]) {
    x.fill(fill);
    await session.run(binding);
    const doubled = affine([fill, fill, fill, fill]).map((value) => 2 * value);
    expect(binding.read("z")).toEqual({
      type: "float32",
      shape: [2, 3],
      data: Float32Array.from([...doubled, ...doubled]),
    });
  }
  expect(() => binding.read("y")).toThrow('NOT_FOUND: the binding has no output "y"');
});

test("one tensor may be input and output", async () => {
  using identity = Session.loadSync(identityGraph("float32", ["n"]));
  const data = Float32Array.of(1, 2, 3);
  using tensor = Tensor.from("float32", [3], data);
  using binding = identity.bind({ inputs: { x: tensor }, outputs: { y: tensor } });
  await identity.run(binding);
  expect([...data]).toEqual([1, 2, 3]);
});

test("a binding says which input or output is missing, unknown or does not fit", () => {
  const { X, Y } = tensors(1);
  using wide = Tensor.from("float32", [1, 5], new Float32Array(5));
  using flat = Tensor.from("float32", [4], new Float32Array(4));
  using integers = Tensor.from("int32", [1, 4], new Int32Array(4));
  const refuse = (inputs: Record<string, Tensor>, outputs: Record<string, Tensor | null>, message: string) =>
    expect(() => session.bind({ inputs, outputs })).toThrow(`INVALID_ARGUMENT: ${message}`);
  refuse({}, { y: Y }, 'input "x" (float32[batch, 4]) is missing');
  refuse({ x: X, q: X }, { y: Y }, 'the graph has no input "q"; it has x');
  refuse({ x: X }, { q: null }, 'the graph has no output "q"; it has y, z');
  refuse({ x: X }, {}, "a binding needs at least one output");
  refuse({ x: wide }, { y: Y }, 'input "x" is float32[batch, 4], the tensor is float32[1, 5]');
  refuse({ x: flat }, { y: Y }, 'input "x" is float32[batch, 4], the tensor is float32[4]');
  refuse({ x: integers }, { y: Y }, 'input "x" is float32[batch, 4], the tensor is int32[1, 4]');
  refuse({ x: X }, { y: X }, 'output "y" is float32[batch, 3], the tensor is float32[1, 4]');
});

test("an open extent that does not agree between input and output fails the run, and the next one works", async () => {
  const { X } = tensors(2);
  const { Y } = tensors(1);
  using wrong = session.bind({ inputs: { x: X }, outputs: { y: Y } });
  await expect(session.run(wrong)).rejects.toMatchObject({ name: "OnnxRuntimeError", code: "INVALID_ARGUMENT" });
  expect(() => wrong.read("y")).toThrow("INVALID_ARGUMENT");
  const right = tensors(2);
  using binding = session.bind({ inputs: { x: right.X }, outputs: { y: right.Y } });
  await session.run(binding);
  expect([...right.y.subarray(3)]).toEqual(affine([1, 1, 1, 1]));
});

test("a binding keeps its tensors, whoever closes them", async () => {
  const before = liveHandles();
  const { y, X, Y } = tensors(1);
  const binding = session.bind({ inputs: { x: X }, outputs: { y: Y } });
  X.close();
  Y.close();
  await session.run(binding);
  expect([...y]).toEqual(affine([1, 1, 1, 1]));
  expect(liveHandles()).toBe(before + 3);
  binding.close();
  expect(liveHandles()).toBe(before);
});

test("a closed binding, and one of another session, cannot run", async () => {
  const { X } = tensors(1);
  const binding = session.bind({ inputs: { x: X }, outputs: { y: null } });
  session.runSync(binding);
  binding.close();
  binding.close();
  expect(() => session.runSync(binding)).toThrow("USE_AFTER_CLOSE: the binding is closed");
  expect(() => binding.read("y")).toThrow("USE_AFTER_CLOSE");
  await expect(session.run(binding)).rejects.toThrow("USE_AFTER_CLOSE");
  using other = Session.loadSync(affineGraph());
  using foreign = other.bind({ inputs: { x: X }, outputs: { y: null } });
  await expect(session.run(foreign)).rejects.toThrow("INVALID_ARGUMENT: the binding belongs to another session");
});

test("a binding in flight is busy until its run ends, and its closing waits for that", async () => {
  using slow = Session.loadSync(slowGraph(50), { optimization: "none" });
  const y = new Float32Array(64 * 256);
  using input = Tensor.from("float32", [64, 256], new Float32Array(64 * 256).fill(3));
  using output = Tensor.from("float32", [64, 256], y);
  const before = liveHandles();
  const binding = slow.bind({ inputs: { x: input }, outputs: { y: output } });
  const running = slow.run(binding);
  await expect(slow.run(binding)).rejects.toMatchObject({ code: "BUSY" });
  expect(() => slow.runSync(binding)).toThrow("BUSY");
  expect(() => binding.read("y")).toThrow("BUSY");
  binding.close();
  expect(liveHandles()).toBe(before + 1);
  await running;
  expect(y.every((value) => Math.abs(value - 3) < 1e-3)).toBe(true);
  expect(liveHandles()).toBe(before);
});
