import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { GraphBuilder } from "../graph/index.ts";
import type { OnnxRuntimeError } from "./error.ts";
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
  const start = await privateBytes();
  for (let counted = 0; counted < rounds; counted++) await round();
  return ((await privateBytes()) - start) / rounds;
}

/** vitest keeps what it saw rejected, and with it all that the error's stack refers to. */
async function codeOf(action: () => Promise<unknown>): Promise<string> {
  try {
    await action();
    return "OK";
  } catch (error) {
    return (error as OnnxRuntimeError).code;
  }
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
    const { device } = session;
    using slow = Session.loadSync(slowGraph(200), { optimization: "none" });
    const before = liveHandles();
    const codes = new Set<string>();
    const growth = await growthPerRound(300, async () => {
      using x = Tensor.from("float32", [4096, 4], new Float32Array(4096 * 4));
      using z = device.allocate("float32", [4096, 3]);
      using binding = session.bind({ inputs: { x }, outputs: { y: null, z } });
      await session.run(binding);
      session.runSync(binding);
      binding.read("y");
      binding.read("z");
      using short = Tensor.from("float32", [1, 3], new Float32Array(3));
      using wrong = session.bind({ inputs: { x }, outputs: { y: short } });
      codes.add(await codeOf(() => session.run(wrong)));
      codes.add(await codeOf(() => Session.load(Uint8Array.of(1, 2, 3))));

      using input = Tensor.from("float32", [64, 256], new Float32Array(64 * 256));
      using long = slow.bind({ inputs: { x: input }, outputs: { y: null } });
      const controller = new AbortController();
      const running = slow.run(long, { signal: controller.signal });
      setImmediate(() => controller.abort());
      codes.add(await codeOf(() => running));
    });
    // A round has 350 KiB in tensors, the smallest of 48 KiB.
    expect(growth).toBeLessThan(MIB / 48);
    expect([...codes]).toEqual(["INVALID_ARGUMENT", "INVALID_PROTOBUF", "CANCELLED"]);
    expect(liveHandles()).toBe(before);
  });

  test("small native objects: tensors, bindings, options, statuses", async () => {
    const model = affineGraph();
    using session = Session.loadSync(model);
    const before = liveHandles();
    const data = new Float32Array(4);
    const growth = await growthPerRound(10_000, async () => {
      for (let binding = 0; binding < 4; binding++) {
        using x = Tensor.from("float32", [1, 4], data);
        session.bind({ inputs: { x }, outputs: { y: null } }).close();
      }
      for (let failure = 0; failure < 10; failure++) {
        try {
          Session.loadSync(model, { config: { "": "refused by the runtime" } });
        } catch {}
      }
    });
    // Forgetting to release any one kind of these is 1,000 bytes a round or more; JavaScript's own heap wanders by 350.
    expect(growth).toBeLessThan(700);
    expect(liveHandles()).toBe(before);
  });
});
