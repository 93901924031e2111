import { createHash } from "node:crypto";
import { mkdtemp, open, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { TensorSource } from "../../checkpoint/tensor-source.ts";
import { CheckpointError } from "../../errors.ts";
import type { ConvertTask } from "./convert-weight.ts";
import type { DigestTask } from "./digest-range.ts";
import { runTasks } from "./run-tasks.ts";

/** Each of two steps of reading. */
const [ROWS, COLUMNS, PARTS] = [1500, 1000, 4] as const;
const PART_BYTES = 4 * ROWS * COLUMNS;
const IN_THREADS = { memory: 1e9, threadsFrom: 1 };

let work: string;
let source: string;
let target: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "run-tasks-"));
  source = join(work, "source");
  target = join(work, "target");
  for (const path of [source, target]) {
    await writeFile(path, "");
    await truncate(path, PARTS * PART_BYTES);
  }
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(work, { recursive: true, force: true });
});

/** Copies of parts of one file in another. */
function conversions(): ConvertTask[] {
  return Array.from({ length: PARTS }, (_, index) => {
    const place = { name: `part.${index}`, offset: index * PART_BYTES, byteLength: PART_BYTES };
    const shape = [ROWS, COLUMNS];
    const range: TensorSource = { ...place, dtype: "F32", shape, path: source, file: "source" };
    return {
      kind: "convert",
      weight: {
        kind: "matrix",
        name: place.name,
        out: ROWS,
        in: COLUMNS,
        sources: [range],
        layout: "rows",
        format: { kind: "float32" },
      },
      sources: [range],
      target,
      places: [{ ...place, dtype: "float32", shape }],
    };
  });
}

async function put(values: Float32Array, part: number, element: number): Promise<void> {
  await using file = await open(source, "r+");
  await file.write(new Uint8Array(values.buffer), 0, values.byteLength, part * PART_BYTES + 4 * element);
}

const terminations = () => vi.spyOn(Worker.prototype, "terminate");

describe("runTasks, in threads", () => {
  it("does all tasks, says what they read, and gives results in their order", async () => {
    for (let part = 0; part < PARTS; part++) await put(Float32Array.of(part + 1), part, 77);
    let read = 0;
    const done: number[] = [];
    const results = await runTasks(conversions(), {
      ...IN_THREADS,
      threads: 2,
      onBytes: (bytes) => {
        read += bytes;
      },
      onDone: (index) => {
        done.push(index);
      },
    });
    expect(read).toBe(PARTS * PART_BYTES);
    expect(done.sort()).toEqual([0, 1, 2, 3]);
    await using file = await open(target);
    for (const [index, { sources, stored }] of results.entries()) {
      const { buffer } = await file.read(Buffer.alloc(PART_BYTES), 0, PART_BYTES, index * PART_BYTES);
      expect(buffer.readFloatLE(4 * 77)).toBe(index + 1);
      const sha256 = createHash("sha256").update(buffer).digest("hex");
      expect([sources, stored]).toEqual([[sha256], [sha256]]);
    }
  });

  it("takes as many threads as memory, tasks and the caller allow", async () => {
    const counts: number[] = [];
    for (const [memory, threads] of [
      [0, 8],
      [1e9, 3],
      [100e6, 8],
    ] as const) {
      const terminate = terminations();
      const tasks = conversions().map(({ sources: [from] }): DigestTask => {
        const { offset, byteLength } = from as TensorSource;
        return { kind: "digest", path: source, offset, byteLength, padding: 0 };
      });
      await runTasks(tasks, { memory, threads, threadsFrom: 1 });
      counts.push(terminate.mock.calls.length);
      terminate.mockRestore();
    }
    expect(counts).toEqual([1, 3, 2]);
  });

  it("names the tensor and the element that is no number, as the error it is, and stops the others", async () => {
    await put(Float32Array.of(Number.NEGATIVE_INFINITY), 2, 1_400_001);
    const terminate = terminations();
    const error = await runTasks(conversions(), { ...IN_THREADS, threads: 2 }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error).toMatchObject({
      reason: "CHECKPOINT_NOT_FINITE",
      message: 'tensor "part.2" is -Infinity at element 1400001',
    });
    expect(terminate).toHaveBeenCalledTimes(2);
    const { mtimeMs } = await stat(target);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await stat(target)).mtimeMs).toBe(mtimeMs);
  });

  it("keeps what the system says", async () => {
    await rm(target);
    await expect(runTasks(conversions(), { ...IN_THREADS })).rejects.toMatchObject({
      code: "ENOENT",
      syscall: "open",
      path: target,
    });
  });

  it("ends with what a callback throws", async () => {
    const stop = () => {
      throw new RangeError("enough");
    };
    await expect(runTasks(conversions(), { ...IN_THREADS, onBytes: stop })).rejects.toThrow(RangeError);
    await expect(runTasks(conversions(), { ...IN_THREADS, onDone: stop })).rejects.toThrow(RangeError);
  });

  it("stops when it is aborted, before it begins and in the middle", async () => {
    const reason = new Error("changed my mind");
    await expect(runTasks(conversions(), { ...IN_THREADS, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    for (const steps of [1, 5]) {
      const controller = new AbortController();
      let calls = 0;
      const running = runTasks(conversions(), {
        ...IN_THREADS,
        threads: 2,
        signal: controller.signal,
        onBytes: () => {
          if (++calls === steps) controller.abort(reason);
        },
      });
      await expect(running).rejects.toBe(reason);
      expect(calls).toBeLessThan(2 * PARTS);
    }
  });

  it("does not wait for a thread that has ended by itself", async () => {
    const post = vi.spyOn(Worker.prototype, "postMessage").mockImplementation(function (this: Worker) {
      void this.terminate();
    });
    await expect(runTasks(conversions(), { ...IN_THREADS, threads: 2 })).rejects.toThrow(/thread ended by itself/);
    post.mockRestore();
  });
});
