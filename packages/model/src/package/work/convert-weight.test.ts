import { createHash } from "node:crypto";
import { mkdtemp, open, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ElementType } from "../../checkpoint/element-types.ts";
import type { TensorSource } from "../../checkpoint/tensor-source.ts";
import type { MatrixFormat, PlannedWeight } from "../../graph/index.ts";
import { quantizeRows } from "../../quantize/quantize-rows.ts";
import { placeWeights, weightsFileBytes } from "../weights-layout.ts";
import { type ConvertTask, convertWeight } from "./convert-weight.ts";
import { OpenFiles } from "./file-access.ts";
import { Scratch } from "./scratch.ts";

let work: string;
beforeAll(async () => {
  work = await mkdtemp(join(tmpdir(), "convert-"));
});
afterAll(async () => {
  await rm(work, { recursive: true, force: true });
});

/** Uneven in everything, and several panels of rows and of columns. */
const ROWS = [133, 166] as const;
const COLUMNS = 281;
const PANEL = { rows: 50 * COLUMNS, columns: 4000 };
const OUT = ROWS[0] + ROWS[1];

/** Values of source `index`, each of them a bfloat16 but for its last bits where the type has more. */
function valueAt(index: number, element: number, dtype: ElementType): number {
  const rough = (((element * 7919) % 255) + 1) * (element % 2 === 0 ? 1 : -1) * (index + 1) * 2 ** -8;
  return dtype === "BF16"
    ? toBfloat16(rough)
    : dtype === "F16"
      ? Math.f16round(rough * 1.01)
      : Math.fround(rough * 1.01);
}

/** Nearest bfloat16, by arithmetic: eight bits of significand. */
function toBfloat16(value: number): number {
  if (value === 0) return value;
  const step = 2 ** (Math.floor(Math.log2(Math.abs(value))) - 7);
  const steps = value / step;
  const low = Math.floor(steps);
  const up = steps - low > 0.5 || (steps - low === 0.5 && low % 2 !== 0);
  return (up ? low + 1 : low) * step;
}

/** A file with the two sources behind each other, at an offset that is a multiple of nothing. */
async function writeSources(dtypes: readonly [ElementType, ElementType]): Promise<TensorSource[]> {
  const path = join(work, `${dtypes.join("-")}.safetensors`);
  const parts: Uint8Array[] = [new Uint8Array(13)];
  const sources: TensorSource[] = [];
  let offset = 13;
  for (const [index, dtype] of dtypes.entries()) {
    const rows = ROWS[index] as number;
    const count = rows * COLUMNS;
    const values = Float32Array.from({ length: count }, (_, i) => valueAt(index, i, dtype));
    const bytes = new Uint8Array(
      dtype === "F32"
        ? values.buffer
        : dtype === "F16"
          ? Float16Array.from(values).buffer
          : Uint16Array.from(
              { length: count },
              (_, i) => (new Uint32Array(values.buffer, 4 * i, 1)[0] as number) >>> 16,
            ).buffer,
    );
    const shape = [rows, COLUMNS];
    sources.push({ name: `part.${index}`, dtype, shape, path, file: "x", offset, byteLength: bytes.byteLength });
    parts.push(bytes);
    offset += bytes.byteLength;
  }
  await writeFile(path, Buffer.concat(parts));
  return sources;
}

function matrix(layout: "rows" | "columns", format: MatrixFormat, sources: readonly TensorSource[]): PlannedWeight {
  return { kind: "matrix", name: "matrix", out: OUT, in: COLUMNS, sources, layout, format };
}

/** Convert into a fresh file. @returns its bytes, and what the conversion said */
async function convert(weight: PlannedWeight, sources: readonly TensorSource[]) {
  const target = join(work, "weights.bin");
  const places = placeWeights([weight]);
  await writeFile(target, "");
  await truncate(target, weightsFileBytes(places));
  let read = 0;
  await using files = new OpenFiles();
  const onBytes = (bytes: number) => {
    read += bytes;
  };
  const task: ConvertTask = { kind: "convert", weight, sources, target, places };
  const result = await convertWeight(task, { files, scratch: new Scratch(), panel: PANEL, onBytes });
  expect(read).toBe(sources.reduce((sum, { byteLength }) => sum + byteLength, 0));
  const file = await (await files.reading(target)).readFile();
  const stored = places.map(({ offset, byteLength }) => file.subarray(offset, offset + byteLength));
  expect(result.stored).toEqual(stored.map(sha256));
  return { stored, result };
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Element of the stacked sources. */
function element(dtypes: readonly ElementType[], row: number, column: number): number {
  const index = row < ROWS[0] ? 0 : 1;
  return valueAt(index, (row - index * ROWS[0]) * COLUMNS + column, dtypes[index] as ElementType);
}

/** Whether stored values are those of the stacked sources, each in its place. @returns the first that is not */
function firstMisplaced(
  dtypes: readonly ElementType[],
  layout: "rows" | "columns",
  stored: (index: number) => number,
  expected: (value: number) => number,
): string | undefined {
  for (let row = 0; row < OUT; row++) {
    for (let column = 0; column < COLUMNS; column++) {
      const index = layout === "rows" ? row * COLUMNS + column : column * OUT + row;
      const want = expected(element(dtypes, row, column));
      if (stored(index) !== want) return `[${row}, ${column}] is ${stored(index)}, not ${want}`;
    }
  }
  return undefined;
}

const TYPES: [ElementType, ElementType][] = [
  ["F32", "F32"],
  ["F16", "F16"],
  ["BF16", "BF16"],
  ["BF16", "F32"],
];

describe.each(TYPES)("a matrix from %s and %s", (...dtypes) => {
  let sources: TensorSource[];
  beforeAll(async () => {
    sources = await writeSources(dtypes);
  });

  it.each(["rows", "columns"] as const)("has every float32 in its place, by %s", async (layout) => {
    const { stored, result } = await convert(matrix(layout, { kind: "float32" }, sources), sources);
    const bytes = stored[0] as Buffer;
    expect(
      firstMisplaced(
        dtypes,
        layout,
        (i) => bytes.readFloatLE(4 * i),
        (value) => value,
      ),
    ).toBeUndefined();
    await using file = await open(sources[0]?.path as string);
    for (const [index, { offset, byteLength }] of sources.entries()) {
      const { buffer } = await file.read(Buffer.alloc(byteLength), 0, byteLength, offset);
      expect(result.sources[index]).toBe(sha256(buffer));
    }
  });

  it.each(["rows", "columns"] as const)("has every bfloat16 in its place, by %s", async (layout) => {
    const { stored } = await convert(matrix(layout, { kind: "bfloat16" }, sources), sources);
    const bytes = Buffer.concat([Buffer.alloc(2), stored[0] as Buffer]);
    // The two bytes before an element stand for the lower half of its float32; they are another's and cut off.
    const read = (i: number) => toBfloat16(Math.fround(bytes.readUInt16LE(2 * i + 2) === 0 ? 0 : asFloat(bytes, i)));
    expect(firstMisplaced(dtypes, layout, read, toBfloat16)).toBeUndefined();
  });

  it.each([
    [8, 32],
    [8, 128],
    [4, 32],
    [4, 128],
  ] as const)("has every integer of %i bits in its place, in blocks of %i", async (bits, block) => {
    const { stored } = await convert(matrix("rows", { kind: "nbits", bits, block }, sources), sources);
    const values = Float32Array.from({ length: OUT * COLUMNS }, (_, i) =>
      element(dtypes, Math.floor(i / COLUMNS), i % COLUMNS),
    );
    const { data, scales } = quantizeRows(values, { rows: OUT, in: COLUMNS, bits, block });
    expect(stored).toHaveLength(2);
    expect(stored[0]?.equals(data)).toBe(true);
    expect(stored[1]?.equals(new Uint8Array(scales.buffer))).toBe(true);
  });
});

function asFloat(bytes: Buffer, index: number): number {
  const word = Buffer.alloc(4);
  bytes.copy(word, 2, 2 * index + 2, 2 * index + 4);
  return word.readFloatLE(0);
}

describe("convertWeight", () => {
  const vector = (values: readonly number[], name: string): TensorSource => {
    const path = join(work, `${name}.bin`);
    return { name, dtype: "F32", shape: [values.length], path, file: name, offset: 0, byteLength: 4 * values.length };
  };

  it("joins vectors, and adds one where the norm does", async () => {
    const [a, b] = [
      [0.5, -1],
      [2, 0.25, -0.125],
    ];
    const sources = [vector(a as number[], "a"), vector(b as number[], "b")];
    await writeFile(sources[0]?.path as string, new Uint8Array(Float32Array.from(a as number[]).buffer));
    await writeFile(sources[1]?.path as string, new Uint8Array(Float32Array.from(b as number[]).buffer));
    for (const plusOne of [false, true]) {
      const { stored } = await convert({ kind: "vector", name: "norm", sources, plusOne }, sources);
      const values = Array.from({ length: 5 }, (_, i) => (stored[0] as Buffer).readFloatLE(4 * i));
      expect(values).toEqual([...(a as number[]), ...(b as number[])].map((value) => value + (plusOne ? 1 : 0)));
    }
  });

  it("writes beyond what 32 bits count", async () => {
    const offset = 5 * 2 ** 30 + 4096;
    const target = join(work, "large.bin");
    await writeFile(target, "");
    await truncate(target, offset + 8);
    const source = vector([1.5, -2], "far");
    await writeFile(source.path, new Uint8Array(Float32Array.of(1.5, -2).buffer));
    await using files = new OpenFiles();
    const weight: PlannedWeight = { kind: "vector", name: "v", sources: [source], plusOne: false };
    const places = [{ name: "v", dtype: "float32", shape: [2], offset, byteLength: 8 }] as const;
    const tools = { files, scratch: new Scratch(), panel: PANEL, onBytes: () => {} };
    await convertWeight({ kind: "convert", weight, sources: [source], target, places }, tools);
    const { buffer } = await (await files.reading(target)).read(Buffer.alloc(8), 0, 8, offset);
    expect([buffer.readFloatLE(0), buffer.readFloatLE(4)]).toEqual([1.5, -2]);
    await rm(target);
  });

  it.each(["rows", "columns"] as const)("names the element that is no number, by %s", async (layout) => {
    const sources = await writeSources(["BF16", "BF16"]);
    const { path, offset } = sources[1] as TensorSource;
    const at = 40_001;
    await using file = await open(path, "r+");
    await file.write(Uint8Array.of(0xc0, 0x7f), 0, 2, offset + 2 * at);
    await expect(convert(matrix(layout, { kind: "float32" }, sources), sources)).rejects.toMatchObject({
      reason: "CHECKPOINT_NOT_FINITE",
      message: `tensor "part.1" is NaN at element ${at}`,
    });
  });

  it("notices that a file became shorter", async () => {
    const sources = await writeSources(["F16", "F16"]);
    const { path, offset } = sources[1] as TensorSource;
    await truncate(path, offset + 1000);
    await expect(convert(matrix("rows", { kind: "float32" }, sources), sources)).rejects.toMatchObject({
      reason: "CHECKPOINT_CORRUPT",
    });
  });
});
