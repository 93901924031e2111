import { convertToFloat32, ELEMENT_BYTES, type ElementType } from "../../checkpoint/element-types.ts";
import type { TensorSource } from "../../checkpoint/tensor-source.ts";
import type { PlannedWeight, WeightLocation } from "../../graph/index.ts";
import { encodeRows } from "./encode-rows.ts";
import { CHUNK_BYTES, type OpenFiles, TensorWriter } from "./file-access.ts";
import type { Scratch } from "./scratch.ts";
import { SourceReader } from "./source-reader.ts";
import { type ElementBits, transposeColumns } from "./transpose.ts";

/** Make one weight of the package from tensors of the checkpoint. */
export interface ConvertTask {
  readonly kind: "convert";
  readonly weight: PlannedWeight;
  /** Where the weight's sources lie, in their order. */
  readonly sources: readonly TensorSource[];
  /** Path of the weights file, which is there already. */
  readonly target: string;
  /** Places of the tensors that store the weight, in their order. */
  readonly places: readonly WeightLocation[];
}

export interface ConvertResult {
  /** sha256 of each source's bytes, hexadecimal. */
  readonly sources: readonly string[];
  /** sha256 of each stored tensor's bytes, hexadecimal. */
  readonly stored: readonly string[];
}

type Matrix = Extract<PlannedWeight, { kind: "matrix" }>;

/** What a conversion works with. */
export interface ConversionTools {
  readonly files: OpenFiles;
  readonly scratch: Scratch;
  readonly panel: PanelElements;
  /** Called with the bytes of the checkpoint that each step read. */
  readonly onBytes: (bytes: number) => void;
}

/** Elements that are converted at once. */
export interface PanelElements {
  readonly rows: number;
  readonly columns: number;
}

/**
 * Few enough of rows that they stay in the cache from one step to the next; more of columns, since every panel passes over
 * all rows of the source.
 */
export const PANEL_ELEMENTS: PanelElements = { rows: 1024 * 1024, columns: 4 * 1024 * 1024 };

/** Bytes for each of these elements in all buffers together, at most: source, float32 and what is stored. */
const ELEMENT_BUFFERS_BYTES = 12;

/**
 * Bytes of buffers that a conversion holds at once.
 *
 * Rows are streamed. Columns need all of a matrix in its source type before the first of them is whole.
 */
export function conversionBytes({ weight, sources }: ConvertTask): number {
  if (weight.kind === "vector") return 3 * byteLength(sources);
  if (weight.layout === "rows") return ELEMENT_BUFFERS_BYTES * Math.max(PANEL_ELEMENTS.rows, weight.in);
  const whole = byteLength(sources) * (sameType(sources) ? 1 : 2);
  return whole + ELEMENT_BUFFERS_BYTES * Math.max(PANEL_ELEMENTS.columns, weight.out);
}

/** @throws CheckpointError naming the tensor; what the file system throws */
export async function convertWeight(task: ConvertTask, tools: ConversionTools): Promise<ConvertResult> {
  const target = await tools.files.writing(task.target);
  const writers = task.places.map((place) => new TensorWriter(target, place));
  const write = async (parts: readonly Uint8Array[]) => {
    for (const [index, part] of parts.entries()) await (writers[index] as TensorWriter).write(part);
  };
  const { weight } = task;
  const convert =
    weight.kind === "vector" ? convertVector : weight.layout === "rows" ? convertByRows : convertByColumns;
  const sources = await convert(task, tools, write);
  return { sources, stored: writers.map((writer) => writer.finish()) };
}

type Convert = (
  task: ConvertTask,
  tools: ConversionTools,
  write: (parts: readonly Uint8Array[]) => Promise<void>,
) => Promise<string[]>;

const convertVector: Convert = async ({ weight, sources }, tools, write) => {
  const digests: string[] = [];
  for (const source of sources) {
    const reader = await open(source, tools);
    const raw = tools.scratch.bytes("source", source.byteLength);
    await reader.read(raw);
    const values = tools.scratch.float32("values", source.byteLength / ELEMENT_BYTES[source.dtype]);
    convertToFloat32(source.dtype, raw, values);
    if (weight.kind === "vector" && weight.plusOne) {
      for (let i = 0; i < values.length; i++) values[i] = 1 + (values[i] as number);
    }
    await write([new Uint8Array(values.buffer, values.byteOffset, values.byteLength)]);
    digests.push(reader.finish());
  }
  return digests;
};

/** Panel by panel of whole rows, source after source. */
const convertByRows: Convert = async ({ weight, sources }, tools, write) => {
  const { in: width, format } = weight as Matrix;
  const rowsAtOnce = Math.max(1, Math.floor(tools.panel.rows / width));
  const digests: string[] = [];
  for (const source of sources) {
    const reader = await open(source, tools);
    const rows = source.shape[0] as number;
    const rowBytes = width * ELEMENT_BYTES[source.dtype];
    for (let row = 0; row < rows; row += rowsAtOnce) {
      const raw = tools.scratch.bytes("source", Math.min(rowsAtOnce, rows - row) * rowBytes);
      await reader.read(raw);
      await write(encodeRows(format, source.dtype, raw, width, tools.scratch));
    }
    digests.push(reader.finish());
  }
  return digests;
};

/** All sources in memory, then panel by panel of whole columns, which are rows of what is stored. */
const convertByColumns: Convert = async ({ weight, sources }, tools, write) => {
  const { in: columns, out, format } = weight as Matrix;
  const dtype = sameType(sources) ? (sources[0] as TensorSource).dtype : "F32";
  const elementBytes = ELEMENT_BYTES[dtype];
  const whole = tools.scratch.bytes("source", out * columns * elementBytes);
  const digests: string[] = [];
  let end = 0;
  for (const source of sources) {
    const length = (source.shape[0] as number) * columns * elementBytes;
    digests.push(await readAs(dtype, source, whole.subarray(end, end + length), tools));
    end += length;
  }

  const columnsAtOnce = Math.max(1, Math.floor(tools.panel.columns / out));
  const source = bitsOf(dtype, whole);
  for (let from = 0; from < columns; from += columnsAtOnce) {
    const to = Math.min(from + columnsAtOnce, columns);
    const panel = tools.scratch.bytes("panel", (to - from) * out * elementBytes);
    transposeColumns(source, { rows: out, columns }, { from, to }, bitsOf(dtype, panel));
    await write(encodeRows(format, dtype, panel, out, tools.scratch));
  }
  return digests;
};

/** Read a whole tensor into elements of `dtype`: its own type, or float32. @returns sha256 of what was read */
async function readAs(
  dtype: ElementType,
  source: TensorSource,
  into: Uint8Array<ArrayBuffer>,
  tools: ConversionTools,
): Promise<string> {
  const reader = await open(source, tools);
  if (source.dtype === dtype) {
    await reader.read(into);
    return reader.finish();
  }
  const values = new Float32Array(into.buffer, into.byteOffset, into.byteLength / 4);
  const elements = CHUNK_BYTES / ELEMENT_BYTES[source.dtype];
  for (let at = 0; at < values.length; at += elements) {
    const count = Math.min(elements, values.length - at);
    const raw = tools.scratch.bytes("panel", count * ELEMENT_BYTES[source.dtype]);
    await reader.read(raw);
    convertToFloat32(source.dtype, raw, values, at);
  }
  return reader.finish();
}

async function open(source: TensorSource, { files, onBytes }: ConversionTools): Promise<SourceReader> {
  return new SourceReader(source, await files.reading(source.path), onBytes);
}

function bitsOf(dtype: ElementType, { buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): ElementBits {
  return ELEMENT_BYTES[dtype] === 4
    ? new Uint32Array(buffer, byteOffset, byteLength / 4)
    : new Uint16Array(buffer, byteOffset, byteLength / 2);
}

function sameType(sources: readonly TensorSource[]): boolean {
  return sources.every(({ dtype }) => dtype === sources[0]?.dtype);
}

function byteLength(sources: readonly TensorSource[]): number {
  return sources.reduce((sum, source) => sum + source.byteLength, 0);
}
