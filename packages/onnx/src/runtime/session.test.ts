import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { GraphBuilder } from "../graph/index.ts";
import { liveHandles } from "./handle.ts";
import { Session } from "./session.ts";
import type { SessionOptions } from "./session-options.ts";
import { Tensor } from "./tensor.ts";
import { affine, affineGraph, one, slowGraph } from "./testing/graphs.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-session-"));
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, content: Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

test("a session loads from a path and from bytes, on this thread and beside it, and says what it takes and gives", async () => {
  const path = file("affine.onnx", affineGraph());
  using x = Tensor.from("float32", [1, 4], Float32Array.of(1, 2, 3, 4));
  for (const load of [Session.load, Session.loadSync]) {
    for (const source of [path, affineGraph()]) {
      using session = await load(source);
      expect(session.inputs).toEqual([{ name: "x", type: "float32", shape: ["batch", 4] }]);
      expect(session.outputs).toEqual([
        { name: "y", type: "float32", shape: ["batch", 3] },
        { name: "z", type: "float32", shape: ["batch", 3] },
      ]);
      const { y } = await session.runAllocating({ x }, ["y"]);
      expect([...y.data]).toEqual(affine([1, 2, 3, 4]));
    }
  }
});

test("every option reaches the runtime", async () => {
  const options: SessionOptions = {
    provider: "cpu",
    intraOpThreads: 2,
    optimization: "basic",
    memoryArena: false,
    logSeverity: "fatal",
    config: { "session.disable_prepacking": "1" },
    profilePrefix: join(folder, "profile"),
  };
  using session = await Session.load(affineGraph(), options);
  using x = Tensor.from("float32", [1, 4], Float32Array.of(1, 2, 3, 4));
  const { y } = await session.runAllocating({ x }, ["y"]);
  expect([...y.data]).toEqual(affine([1, 2, 3, 4]));
  const profile = session.endProfiling();
  expect(profile.startsWith(join(folder, "profile"))).toBe(true);
  expect(readFileSync(profile, "utf8")).toContain("MatMul");
});

test("the level of optimization decides how many nodes run", async () => {
  const nodes = async (optimization: SessionOptions["optimization"] & string) => {
    const graph = new GraphBuilder("foldable");
    const x = graph.input("x", "float32", [4]);
    const twice = graph.op("Identity", [graph.op("Identity", [x])]);
    const { value } = { value: one(graph.ops("Neg", [twice], [{ global: "y" }])) };
    graph.expose(value, "float32", [4]);
    using session = await Session.load(graph.build(), { optimization, profilePrefix: join(folder, optimization) });
    using input = Tensor.from("float32", [4], new Float32Array(4));
    await session.runAllocating({ x: input });
    return readFileSync(session.endProfiling(), "utf8").match(/_kernel_time/g)?.length;
  };
  expect(await nodes("none")).toBe(3);
  expect(await nodes("all")).toBe(1);
});

test("options that make no sense are refused by name", async () => {
  const refuse = async (options: SessionOptions, message: string) => {
    await expect(Session.load(affineGraph(), options)).rejects.toThrow(message);
    expect(() => Session.loadSync(affineGraph(), options)).toThrow(message);
  };
  const before = liveHandles();
  await refuse({ provider: "cuda" }, 'UNSUPPORTED_PROVIDER: the execution provider "cuda" is not supported yet');
  await refuse({ provider: "webgpu" }, 'UNSUPPORTED_PROVIDER: the execution provider "webgpu" is not supported yet');
  await refuse({ provider: "abacus" as "cpu" }, 'UNSUPPORTED_PROVIDER: there is no execution provider "abacus"');
  await refuse({ intraOpThreads: 0 }, "INVALID_ARGUMENT: intraOpThreads is 0; give 1 to 1024");
  await refuse({ intraOpThreads: 1.5 }, "INVALID_ARGUMENT: intraOpThreads is 1.5");
  await refuse({ optimization: "max" as "all" }, 'INVALID_ARGUMENT: there is no optimization level "max"');
  await refuse({ logSeverity: "loud" as "error" }, 'INVALID_ARGUMENT: there is no log severity "loud"');
  await refuse({ config: { "": "1" } }, "INVALID_ARGUMENT");
  expect(liveHandles()).toBe(before);
});

test("models that cannot be loaded say why", async () => {
  const refuse = async (source: string | Uint8Array, code: string) => {
    await expect(Session.load(source)).rejects.toMatchObject({ name: "OnnxRuntimeError", code });
    expect(() => Session.loadSync(source)).toThrow(`${code}: `);
  };
  const bytes = affineGraph();
  await refuse(join(folder, "missing.onnx"), "NO_SUCH_FILE");
  await refuse(join(folder, "nul\0.onnx"), "INVALID_ARGUMENT");
  await refuse("", "INVALID_ARGUMENT");
  await refuse(new Uint8Array(0), "INVALID_ARGUMENT");
  await refuse(
    file(
      "noise.onnx",
      Uint8Array.from({ length: 999 }, (_, i) => (i * 37) % 251),
    ),
    "INVALID_PROTOBUF",
  );
  await refuse(bytes.subarray(0, bytes.length - 7), "INVALID_PROTOBUF");
  const dangling = new GraphBuilder("dangling");
  dangling.expose(one(dangling.ops("Neg", [{ name: "nowhere" }], [{ global: "y" }])), "float32", [1]);
  await refuse(dangling.build(), "INVALID_ARGUMENT");
  const unknown = new GraphBuilder("unknown");
  unknown.expose(
    one(unknown.ops("NoSuchOperator", [unknown.input("x", "float32", [1])], [{ global: "y" }])),
    "float32",
    [1],
  );
  await refuse(unknown.build(), "INVALID_GRAPH");
  const kernel = new GraphBuilder("no-kernel");
  const x = kernel.input("x", "bfloat16", [1, 1]);
  kernel.expose(one(kernel.ops("MatMul", [x, x], [{ global: "y" }])), "bfloat16", [1, 1]);
  await refuse(kernel.build(), "NOT_IMPLEMENTED");
});

test("closing is idempotent, closes bindings, and everything after it is an error", async () => {
  const before = liveHandles();
  const session = await Session.load(affineGraph());
  const x = Tensor.from("float32", [1, 4], new Float32Array(4));
  const binding = session.bind({ inputs: { x }, outputs: { y: null } });
  session.close();
  session.close();
  expect(session.closed).toBe(true);
  expect(binding.closed).toBe(true);
  expect(() => session.bind({ inputs: { x }, outputs: { y: null } })).toThrow("USE_AFTER_CLOSE: the session of");
  expect(() => session.runSync(binding)).toThrow("USE_AFTER_CLOSE");
  await expect(session.run(binding)).rejects.toThrow("USE_AFTER_CLOSE");
  await expect(session.runAllocating({ x })).rejects.toThrow("USE_AFTER_CLOSE");
  expect(() => session.device).toThrow("USE_AFTER_CLOSE");
  expect(() => session.endProfiling()).toThrow("USE_AFTER_CLOSE");
  x.close();
  expect(liveHandles()).toBe(before);
});

test("a session that is closed during a run lets it finish and is freed then", async () => {
  const before = liveHandles();
  const session = Session.loadSync(slowGraph(50), { optimization: "none" });
  const y = new Float32Array(64 * 256);
  const input = Tensor.from("float32", [64, 256], new Float32Array(64 * 256).fill(2));
  const output = Tensor.from("float32", [64, 256], y);
  const binding = session.bind({ inputs: { x: input }, outputs: { y: output } });
  const running = session.run(binding);
  session.close();
  input.close();
  output.close();
  expect(liveHandles()).toBe(before + 4);
  await expect(session.run(binding)).rejects.toThrow("USE_AFTER_CLOSE");
  await running;
  expect(y.every((value) => Math.abs(value - 2) < 1e-3)).toBe(true);
  expect(liveHandles()).toBe(before);
});
