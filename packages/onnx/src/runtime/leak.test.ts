import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { GraphBuilder } from "../graph/index.ts";
import { liveHandles } from "./handle.ts";
import { Session } from "./session.ts";
import { SharedWeights } from "./shared-weights.ts";
import { Tensor } from "./tensor.ts";
import { affineGraph, one, slowGraph } from "./testing/graphs.ts";
import { privateBytes } from "./testing/memory.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-leak-"));
afterAll(() => rmSync(folder, { recursive: true }));

const MIB = 2 ** 20;

/**
 * Memory after many rounds less memory after some, which warm up caches, pools and the JIT.
 *
 * @returns bytes per round
 */
async function growthPerRound(rounds: number, round: () => Promise<void>): Promise<number> {
  for (let warm = 0; warm < rounds / 4; warm++) await round();
  const start = privateBytes();
  for (let counted = 0; counted < rounds; counted++) await round();
  return (privateBytes() - start) / rounds;
}

describe.skipIf(process.platform !== "linux")("memory stays bounded over many rounds of", () => {
  test("sessions with shared weights, created, run and closed", async () => {
    const weight = new Float32Array(512 * 512).fill(1);
    writeFileSync(join(folder, "weights.bin"), weight);
    const entry = { name: "w", type: "float32", shape: [512, 512], offset: 0, byteLength: weight.byteLength } as const;
    const graph = new GraphBuilder("leak");
    const x = graph.input("x", "float32", ["batch", 512]);
    const w = graph.external("w", "float32", [512, 512], { location: "weights.bin", ...entry });
    graph.expose(one(graph.ops("MatMul", [x, w], [{ global: "y" }])), "float32", ["batch", 512]);
    const path = join(folder, "graph.onnx");
    writeFileSync(path, graph.build());

    const before = liveHandles();
    const growth = await growthPerRound(80, async () => {
      using weights = SharedWeights.open(join(folder, "weights.bin"), [entry]);
      using session = await Session.load(path, { weights });
      using input = Tensor.from("float32", [1, 512], new Float32Array(512));
      await session.runAllocating({ x: input });
    });
    // A round prepacks 1 MiB.
    expect(growth).toBeLessThan(MIB / 8);
    expect(liveHandles()).toBe(before);
  });

  test("bindings over large arrays, outputs of the runtime, failures and cancelled runs", async () => {
    using session = Session.loadSync(affineGraph());
    using slow = Session.loadSync(slowGraph(200), { optimization: "none" });
    const before = liveHandles();
    const growth = await growthPerRound(300, async () => {
      using x = Tensor.from("float32", [4096, 4], new Float32Array(4096 * 4));
      using z = session.device.allocate("float32", [4096, 3]);
      using binding = session.bind({ inputs: { x }, outputs: { y: null, z } });
      await session.run(binding);
      session.runSync(binding);
      binding.read("y");
      binding.read("z");
      using short = Tensor.from("float32", [1, 3], new Float32Array(3));
      using wrong = session.bind({ inputs: { x }, outputs: { y: short } });
      await expect(session.run(wrong)).rejects.toThrow("INVALID_ARGUMENT");
      expect(() => Session.loadSync(Uint8Array.of(1, 2, 3))).toThrow("INVALID_PROTOBUF");

      using input = Tensor.from("float32", [64, 256], new Float32Array(64 * 256));
      using long = slow.bind({ inputs: { x: input }, outputs: { y: null } });
      const controller = new AbortController();
      const running = slow.run(long, { signal: controller.signal });
      setImmediate(() => controller.abort());
      await expect(running).rejects.toMatchObject({ code: "CANCELLED" });
    });
    // A round has 350 KiB in tensors; collecting the arrays is the garbage collector's time to choose.
    expect(growth).toBeLessThan(MIB / 16);
    expect(liveHandles()).toBe(before);
  });
});
