import { expect, test } from "vitest";
import { OnnxRuntimeError } from "./error.ts";
import { liveHandles } from "./handle.ts";
import { Session } from "./session.ts";
import { Tensor } from "./tensor.ts";
import { identityGraph } from "./testing/graphs.ts";

test("device tensors begin as zeros and are inputs and outputs like others", async () => {
  using session = await Session.load(identityGraph("int32", ["n"]));
  const { device } = session;
  expect(session.device).toBe(device);
  using x = device.allocate("int32", [5]);
  using y = device.allocate("int32", [5]);
  expect([x.device, x.data, x.byteLength]).toEqual(["cpu", null, 20]);
  const read = new Int32Array(5).fill(-1);
  device.copyOut(x, read);
  expect([...read]).toEqual([0, 0, 0, 0, 0]);
  device.copyIn(x, Int32Array.of(1, 2, 3, 4, 5));
  device.copyIn(x, Int32Array.of(30), 2);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await session.run(binding);
  device.copyOut(y, read);
  expect([...read]).toEqual([1, 2, 30, 4, 5]);
  const part = new Int32Array(2);
  device.copyOut(y, part, 3);
  expect([...part]).toEqual([4, 5]);
  expect(binding.read("y").data).toEqual(Int32Array.of(1, 2, 30, 4, 5));
});

test("device tensors serve another session, and outlive the one that allocated them", async () => {
  const before = liveHandles();
  const first = await Session.load(identityGraph("float32", ["n"]));
  const second = await Session.load(identityGraph("float32", ["n"]));
  const x = first.device.allocate("float32", [3]);
  first.device.copyIn(x, Float32Array.of(1, 2, 3));
  first.close();
  const { y } = await second.runAllocating({ x }, ["y"]);
  expect([...y.data]).toEqual([1, 2, 3]);
  second.close();
  expect(liveHandles()).toBe(before + 3);
  x.close();
  expect(liveHandles()).toBe(before);
});

test("copies over the end, of another type or into a closed tensor are refused", () => {
  using session = Session.loadSync(identityGraph("float32", ["n"]));
  const { device } = session;
  const x = device.allocate("float32", [4]);
  const three = new Float32Array(3);
  expect(() => device.copyIn(x, three, 2)).toThrow(
    "INVALID_ARGUMENT: 3 elements of a Float32Array from element 2 on do not fit float32[4] on cpu",
  );
  expect(() => device.copyOut(x, three, -1)).toThrow("INVALID_ARGUMENT");
  expect(() => device.copyOut(x, three, 0.5)).toThrow("INVALID_ARGUMENT");
  expect(() => device.copyIn(x, new Int32Array(3))).toThrow("INVALID_ARGUMENT: 3 elements of a Int32Array");
  device.copyIn(x, new Float32Array(0), 4);
  x.close();
  expect(() => device.copyIn(x, three)).toThrow("USE_AFTER_CLOSE: the tensor float32[4] is closed");
});

test("copies reach tensors over arrays too", () => {
  using session = Session.loadSync(identityGraph("float32", ["n"]));
  const data = new Float32Array(4);
  using x = Tensor.from("float32", [4], data);
  session.device.copyIn(x, Float32Array.of(8), 3);
  expect([...data]).toEqual([0, 0, 0, 8]);
});

test("more memory than there is, is an error", () => {
  using session = Session.loadSync(identityGraph("float32", ["n"]));
  expect(() => session.device.allocate("float32", [2 ** 46])).toThrow(OnnxRuntimeError);
  expect(() => session.device.allocate("float32", [2 ** 52])).toThrow("INVALID_ARGUMENT");
});

test("a closed session's device allocates no more", () => {
  const session = Session.loadSync(identityGraph("float32", ["n"]));
  const { device } = session;
  session.close();
  expect(() => device.allocate("float32", [1])).toThrow("USE_AFTER_CLOSE: the device is closed");
});
