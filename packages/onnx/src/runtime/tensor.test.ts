import { describe, expect, test } from "vitest";
import type { ElementType } from "../graph/index.ts";
import type { TensorData } from "./element-type.ts";
import { Session } from "./session.ts";
import { Tensor } from "./tensor.ts";
import { identityGraph } from "./testing/graphs.ts";

const SAMPLES: Record<ElementType, TensorData> = {
  float32: Float32Array.of(1.5, -0, Number.NaN, 3e38),
  int32: Int32Array.of(-1, 2, 2 ** 31 - 1, -(2 ** 31)),
  int64: BigInt64Array.of(-1n, 2n, 2n ** 63n - 1n, -(2n ** 63n)),
  uint8: Uint8Array.of(0, 1, 128, 255),
  int8: Int8Array.of(-128, -1, 0, 127),
  bool: Uint8Array.of(0, 1, 1, 0),
  float16: Uint16Array.of(0x3c00, 0x8000, 0x7bff, 0x0001),
  bfloat16: Uint16Array.of(0x3f80, 0x8000, 0x7f7f, 0x0001),
};

describe("every element type crosses in both directions with its bits", () => {
  test.each(Object.entries(SAMPLES) as [ElementType, TensorData][])("%s", async (type, data) => {
    using session = await Session.load(identityGraph(type, ["n"]));
    expect(session.inputs).toEqual([{ name: "x", type, shape: ["n"] }]);
    using input = Tensor.from(type, [4], data);
    const written = data.slice().fill((type === "int64" ? 0n : 0) as never);
    using output = Tensor.from(type, [4], written);
    using binding = session.bind({ inputs: { x: input }, outputs: { y: output } });
    session.runSync(binding);
    expect(bytes(written)).toEqual(bytes(data));
    expect(binding.read("y")).toEqual({ type, shape: [4], data: written });
    const { y } = await session.runAllocating({ x: input }, ["y"]);
    expect(y.type).toBe(type);
    expect(bytes(y.data)).toEqual(bytes(data));
  });
});

test("views at offsets of one array are tensors of their own, and writes go nowhere else", () => {
  using session = Session.loadSync(identityGraph("float32", ["n", 3]));
  const whole = Float32Array.from({ length: 20 }, (_, i) => i);
  using input = Tensor.from("float32", [2, 3], whole.subarray(1, 7));
  using output = Tensor.from("float32", [2, 3], whole.subarray(10, 16));
  using binding = session.bind({ inputs: { x: input }, outputs: { y: output } });
  session.runSync(binding);
  expect([...whole]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 16, 17, 18, 19]);
});

test("a buffer of slots serves as one slot and as a prefix of slots, each writing its own rows", async () => {
  using session = await Session.load(identityGraph("float32", ["slots", 2, 3]));
  const slot = 2 * 3;
  const buffer = new Float32Array(4 * slot);
  const write = async (first: number, count: number, value: number) => {
    const shape = [count, 2, 3];
    using x = Tensor.from("float32", shape, new Float32Array(count * slot).fill(value));
    using y = Tensor.from("float32", shape, buffer.subarray(first * slot, (first + count) * slot));
    using binding = session.bind({ inputs: { x }, outputs: { y } });
    await session.run(binding);
  };
  await write(0, 3, 1);
  await write(1, 1, 2);
  expect([0, 1, 2, 3].map((row) => [...new Set(buffer.subarray(row * slot, (row + 1) * slot))])).toEqual([
    [1],
    [2],
    [1],
    [0],
  ]);
});

test("an array of 5 GB is written beyond its first 4 GB", () => {
  using session = Session.loadSync(identityGraph("uint8", ["n"]));
  const whole = new Uint8Array(5 * 2 ** 30);
  const start = 4.5 * 2 ** 30;
  using input = Tensor.from("uint8", [3], Uint8Array.of(7, 8, 9));
  using output = Tensor.from("uint8", [3], whole.subarray(start, start + 3));
  using everything = Tensor.from("uint8", [5, 2 ** 30], whole);
  using binding = session.bind({ inputs: { x: input }, outputs: { y: output } });
  session.runSync(binding);
  expect([...whole.subarray(start - 1, start + 4)]).toEqual([0, 7, 8, 9, 0]);
  expect(everything.byteLength).toBe(5 * 2 ** 30);
});

test("tensors without elements and scalars are tensors", async () => {
  using empty = await Session.load(identityGraph("float32", ["n", 4]));
  using none = Tensor.from("float32", [0, 4], new Float32Array(0));
  expect(await empty.runAllocating({ x: none })).toEqual({
    y: { type: "float32", shape: [0, 4], data: new Float32Array(0) },
  });
  using scalar = await Session.load(identityGraph("int32", []));
  using x = Tensor.from("int32", [], Int32Array.of(42));
  expect(await scalar.runAllocating({ x })).toEqual({ y: { type: "int32", shape: [], data: Int32Array.of(42) } });
});

test("arrays and shapes that do not fit are refused", () => {
  const four = new Float32Array(4);
  expect(() => Tensor.from("float32", [5], four)).toThrow(
    "INVALID_ARGUMENT: float32[5] has 5 elements, the array has 4",
  );
  expect(() => Tensor.from("float32", [-2, -2], four)).toThrow("INVALID_ARGUMENT: [-2, -2] is not a shape");
  expect(() => Tensor.from("float32", [2.5], four)).toThrow("INVALID_ARGUMENT: [2.5] is not a shape");
  expect(() => Tensor.from("float32", [2 ** 40, 2 ** 40], four)).toThrow("is not a shape");
  expect(() => Tensor.from("int32", [4], four)).toThrow("INVALID_ARGUMENT: a int32 tensor needs a Int32Array");
  expect(() => Tensor.from("float64" as ElementType, [4], four)).toThrow('unknown element type "float64"');
  const resizable = new Float32Array(new ArrayBuffer(16, { maxByteLength: 64 }));
  expect(() => Tensor.from("float32", [4], resizable)).toThrow(/^INVALID_ARGUMENT: .*resizable/);
});

test("closing is idempotent, and a closed tensor cannot be bound", () => {
  using session = Session.loadSync(identityGraph("float32", ["n"]));
  const x = Tensor.from("float32", [4], new Float32Array(4));
  x.close();
  x.close();
  expect(x.closed).toBe(true);
  expect(() => session.bind({ inputs: { x }, outputs: { y: null } })).toThrow(
    "USE_AFTER_CLOSE: the tensor float32[4] is closed",
  );
});

test("a tensor whose array was transferred away is refused at the next run", async () => {
  using session = Session.loadSync(identityGraph("float32", ["n"]));
  const data = new Float32Array(1024);
  using x = Tensor.from("float32", [1024], data);
  using binding = session.bind({ inputs: { x }, outputs: { y: null } });
  await session.run(binding);
  structuredClone(data.buffer, { transfer: [data.buffer] });
  await expect(session.run(binding)).rejects.toThrow(/^USE_AFTER_CLOSE: .*transferred/);
  expect(() => session.runSync(binding)).toThrow(/^USE_AFTER_CLOSE: .*transferred/);
});

function bytes(data: TensorData): number[] {
  return [...new Uint8Array(data.buffer, data.byteOffset, data.byteLength)];
}
