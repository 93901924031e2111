import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { GraphBuilder } from "../graph/index.ts";
import { liveHandles } from "./handle.ts";
import { pseudoRandom } from "./self-test/pseudo-random.ts";
import { Session } from "./session.ts";
import { SharedWeights } from "./shared-weights.ts";
import { Tensor } from "./tensor.ts";
import { one } from "./testing/graphs.ts";
import { mappedBytes, privateBytes } from "./testing/memory.ts";
import type { WeightEntry } from "./weight-entry.ts";

const folder = mkdtempSync(join(tmpdir(), "onnx-weights-"));
afterAll(() => rmSync(folder, { recursive: true }));

const MIB = 2 ** 20;
const WIDTH = 1024;
const WEIGHTS = 16;
/** 16 weights of 4 MiB and a table of 4 MiB that is gathered from, never prepacked. */
const ENTRIES: WeightEntry[] = Array.from({ length: WEIGHTS + 1 }, (_, index) => ({
  name: index < WEIGHTS ? `weight.${index}` : "table",
  type: "float32",
  shape: [WIDTH, WIDTH],
  offset: index * 4 * MIB,
  byteLength: 4 * MIB,
}));
const PATH = join(folder, "weights.bin");

beforeAll(() => {
  writeFileSync(PATH, pseudoRandom(1, ENTRIES.length * WIDTH * WIDTH));
});

/** ids int64[batch] → y float32[batch, WIDTH]: a row of the table times the sum of some weights. */
function writeGraph(name: string, weights: number, options: { location?: string; shape?: number[] } = {}): string {
  const graph = new GraphBuilder(name);
  const external = (index: number) => {
    const entry = ENTRIES[index] as WeightEntry;
    return graph.external(entry.name, "float32", options.shape ?? entry.shape, {
      location: options.location ?? "weights.bin",
      ...entry,
    });
  };
  const row = graph.op("Gather", [external(WEIGHTS), graph.input("ids", "int64", ["batch"])]);
  const products = Array.from({ length: weights }, (_, index) => graph.op("MatMul", [row, external(index)]));
  graph.expose(one(graph.ops("Sum", products, [{ global: "y" }])), "float32", ["batch", WIDTH]);
  const path = join(folder, `${name}.onnx`);
  writeFileSync(path, graph.build());
  return path;
}

async function run(session: Session): Promise<Float32Array> {
  using ids = Tensor.from("int64", [2], BigInt64Array.of(3n, 700n));
  const { y } = await session.runAllocating({ ids }, ["y"]);
  return y.data as Float32Array;
}

describe.skipIf(process.platform !== "linux")("memory", () => {
  test("sessions over shared weights hold them once, prepacked, and leave the file to the page cache", async () => {
    const paths = ["first", "second", "third"].map((name) => writeGraph(name, WEIGHTS));
    // The library's own start-up is not what is measured.
    (await Session.load(paths[0] as string)).close();
    const start = await privateBytes();

    using weights = SharedWeights.open(PATH, ENTRIES);
    const sessions: Session[] = [];
    const growth: number[] = [];
    for (const path of paths) {
      sessions.push(await Session.load(path, { weights }));
      weights.adviseUnneeded();
      growth.push(((await privateBytes()) - start) / MIB);
    }
    const mapped = mappedBytes();
    const results = await Promise.all(sessions.map(run));
    // One copy is 64 MiB; a copy per session would be 192.
    expect(growth[0]).toBeGreaterThan(48);
    expect(growth[2]).toBeLessThan(112);
    expect((growth[2] as number) - (growth[0] as number)).toBeLessThan(32);
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
    // Reading the table again brings back its few pages, not the file.
    expect(mappedBytes() - mapped).toBeLessThan(16 * MIB);

    for (const session of sessions) session.close();
    weights.adviseUnneeded();
    weights.close();
    expect(((await privateBytes()) - start) / MIB).toBeLessThan(48);
  });

  test("without sharing, each session holds its own: the measurement sees the difference", async () => {
    const path = writeGraph("own", WEIGHTS);
    (await Session.load(path)).close();
    const start = await privateBytes();
    const sessions = [await Session.load(path), await Session.load(path), await Session.load(path)];
    expect(((await privateBytes()) - start) / MIB).toBeGreaterThan(170);
    for (const session of sessions) session.close();
  });

  test("the file is unmapped when the weights and the last session over them are closed, in any order", async () => {
    const isMapped = () => readFileSync("/proc/self/maps", "utf8").includes(PATH);
    const path = writeGraph("lifetime", 2);
    const before = liveHandles();
    const weights = SharedWeights.open(PATH, ENTRIES);
    const first = await Session.load(path, { weights });
    const loading = Session.load(path, { weights });
    weights.close();
    weights.close();
    const second = await loading;
    expect(isMapped()).toBe(true);
    first.close();
    expect(isMapped()).toBe(true);
    expect((await run(second)).length).toBe(2 * WIDTH);
    second.close();
    expect(isMapped()).toBe(false);
    expect(liveHandles()).toBe(before);
  });
});

test("a graph over shared weights computes what it computes by itself", async () => {
  using own = await Session.load(writeGraph("alone", 3));
  using weights = SharedWeights.open(PATH, ENTRIES);
  using shared = await Session.load(writeGraph("shared", 3), { weights });
  const expected = await run(own);
  expect(await run(shared)).toEqual(expected);
});

test("sessions may load at the same time over one set of weights", async () => {
  using weights = SharedWeights.open(PATH, ENTRIES);
  const paths = [4, 6, 8, 2].map((count) => writeGraph(`concurrent-${count}`, count));
  const sessions = await Promise.all(paths.map((path) => Session.load(path, { weights })));
  const results = await Promise.all(sessions.map(run));
  for (const [index, path] of paths.entries()) {
    using own = await Session.load(path);
    expect(results[index]).toEqual(await run(own));
  }
  for (const session of sessions) session.close();
});

test("weights that do not agree with the graph in type, shape or place are refused", async () => {
  const path = writeGraph("disagreeing", 1);
  const table = ENTRIES[WEIGHTS] as WeightEntry;
  const refuse = async (wrong: Partial<WeightEntry>, message: string) => {
    using weights = SharedWeights.open(PATH, [...ENTRIES.slice(0, WEIGHTS), { ...table, ...wrong }]);
    await expect(Session.load(path, { weights })).rejects.toThrow(
      `INVALID_WEIGHTS: the graph declares "table" as ${message}`,
    );
    expect(() => Session.loadSync(readFileSync(path), { weights })).toThrow("INVALID_WEIGHTS");
  };
  const declared = "float32[1024, 1024] at 67108864, the weights have";
  await refuse({ shape: [WIDTH, WIDTH / 2], byteLength: 2 * MIB }, `${declared} float32[1024, 512] at 67108864`);
  await refuse({ type: "int32" }, `${declared} int32[1024, 1024] at 67108864`);
  await refuse({ offset: 0 }, `${declared} float32[1024, 1024] at 0`);
});

test("graphs may see the same elements in different shapes, each its own", async () => {
  const flat = ENTRIES.map((entry) => ({ ...entry, shape: [WIDTH * WIDTH] }));
  using own = await Session.load(writeGraph("in-shape", 2));
  using weights = SharedWeights.open(PATH, flat);
  using shared = await Session.load(writeGraph("reshaped", 2), { weights });
  expect(await run(shared)).toEqual(await run(own));

  const graph = new GraphBuilder("other-shape");
  const table = ENTRIES[WEIGHTS] as WeightEntry;
  const halves = graph.external(table.name, "float32", [2 * WIDTH, WIDTH / 2], { location: "weights.bin", ...table });
  graph.expose(
    one(graph.ops("Gather", [halves, graph.input("ids", "int64", ["batch"])], [{ global: "y" }])),
    "float32",
    ["batch", WIDTH / 2],
  );
  const path = join(folder, "other-shape.onnx");
  writeFileSync(path, graph.build());
  using split = await Session.load(path, { weights });
  const bytes = WIDTH * Float32Array.BYTES_PER_ELEMENT;
  const file = readFileSync(PATH).subarray(table.offset);
  const rows = [3, 700].map((row) => file.subarray((row * bytes) / 2, ((row + 1) * bytes) / 2));
  const got = await run(split);
  expect(Buffer.compare(Buffer.from(got.buffer), Buffer.concat(rows))).toBe(0);
});

describe("a weights file over 4 GiB", () => {
  const ROW = 4096;
  /** 5 GiB of a table, so that its rows, and what stands behind it, lie beyond what 32 bits count. */
  const ROWS = (5 * 2 ** 30) / ROW;
  const table = { name: "table", type: "uint8", shape: [ROWS, ROW], offset: 0, byteLength: ROWS * ROW } as const;
  const gain = { name: "gain", type: "float32", shape: [ROW], offset: table.byteLength, byteLength: 4 * ROW } as const;
  const path = join(folder, "large.bin");
  /** Rows below 2 GiB, between 2 and 4, and above 4. */
  const rows = [0, 1, 2 ** 19 + 7, 2 ** 20 - 1, 2 ** 20, ROWS - 1];
  const valueIn = (row: number, element: number) => (row * 31 + element * 7 + 1) % 251;

  beforeAll(() => {
    const file = openSync(path, "w");
    // Sparse: only what is written takes space.
    truncateSync(path, gain.offset + gain.byteLength);
    for (const row of rows) {
      writeSync(
        file,
        Uint8Array.from({ length: ROW }, (_, element) => valueIn(row, element)),
        0,
        ROW,
        row * ROW,
      );
    }
    writeSync(
      file,
      Float32Array.from({ length: ROW }, (_, element) => 1 + element / ROW),
      0,
      4 * ROW,
      gain.offset,
    );
    closeSync(file);
  });

  test("is read at the right places, by sessions that load it themselves and over shared weights", async () => {
    const graph = new GraphBuilder("large");
    const external = (entry: WeightEntry) =>
      graph.external(entry.name, entry.type, entry.shape, { location: "large.bin", ...entry });
    const gathered = graph.op("Gather", [external(table), graph.input("ids", "int64", ["batch"])]);
    const y = graph.ops("Mul", [graph.cast(gathered, "float32"), external(gain)], [{ global: "y" }]);
    graph.expose(one(y), "float32", ["batch", ROW]);
    writeFileSync(join(folder, "large.onnx"), graph.build());
    using weights = SharedWeights.open(path, [table, gain]);
    expect(weights.byteLength).toBeGreaterThan(2 ** 32);
    using ids = Tensor.from("int64", [rows.length], BigInt64Array.from(rows, BigInt));
    for (const options of [{ weights }, {}]) {
      using session = await Session.load(join(folder, "large.onnx"), options);
      const { data } = (await session.runAllocating({ ids }, ["y"])).y;
      const wanted = rows.flatMap((row) =>
        Array.from({ length: ROW }, (_, element) => Math.fround(valueIn(row, element) * (1 + element / ROW))),
      );
      expect(data).toEqual(Float32Array.from(wanted));
    }
    expect(() => SharedWeights.open(path, [{ ...gain, offset: gain.offset + 64 }])).toThrow("after the file's");
  });
});

test("a graph that is missing, corrupt or names a file that is not there is refused", async () => {
  const before = liveHandles();
  using weights = SharedWeights.open(PATH, ENTRIES);
  const refuse = (path: string, code: string) =>
    expect(Session.load(path, { weights })).rejects.toMatchObject({ name: "OnnxRuntimeError", code });
  await refuse(join(folder, "missing.onnx"), "NO_SUCH_FILE");
  const path = writeGraph("whole", 2);
  const bytes = readFileSync(path);
  writeFileSync(path, bytes.subarray(0, bytes.length - 9));
  await refuse(path, "INVALID_PROTOBUF");
  await refuse(writeGraph("elsewhere", 3, { location: "not-there.bin" }), "FAIL");
  expect(liveHandles()).toBe(before + 2);
});

test("a list of entries that does not fit its file is refused, entry by entry", () => {
  const entry = ENTRIES[1] as WeightEntry;
  const refuse = (wrong: Partial<WeightEntry>, message: string) =>
    expect(() => SharedWeights.open(PATH, [{ ...entry, ...wrong }])).toThrow(message);
  const before = liveHandles();
  refuse({ byteLength: 5 }, "INVALID_WEIGHTS");
  refuse({ byteLength: 5 }, '"weight.1" (float32[1024, 1024]) has 5 bytes, its shape needs 4194304');
  refuse({ offset: 32 }, "begins at 32, which is not a multiple of 64");
  refuse({ offset: -64 }, "begins at -64");
  refuse({ offset: 17 * 4 * MIB }, "ends at 75497472, after the file's 71303168 bytes");
  refuse({ shape: [-1] }, "INVALID_ARGUMENT: [-1] is not a shape");
  refuse({ type: "float128" as "float32" }, 'unknown element type "float128"');
  expect(() => SharedWeights.open(PATH, [entry, entry])).toThrow("is listed twice");
  expect(() => SharedWeights.open(join(folder, "missing.bin"), [])).toThrow("NO_SUCH_FILE");
  const empty = join(folder, "empty.bin");
  writeFileSync(empty, "");
  expect(() => SharedWeights.open(empty, [])).toThrow("INVALID_WEIGHTS");
  expect(() => SharedWeights.open(folder, [])).toThrow(/^(FAIL|INVALID_WEIGHTS): /);
  expect(liveHandles()).toBe(before);
});

test("closed weights take no new session", async () => {
  const weights = SharedWeights.open(PATH, ENTRIES);
  weights.close();
  await expect(Session.load(writeGraph("late", 1), { weights })).rejects.toThrow("USE_AFTER_CLOSE: the weights of");
  expect(() => weights.adviseUnneeded()).toThrow("USE_AFTER_CLOSE");
});
