import { createHash } from "node:crypto";
import type { CheckpointContents } from "./checkpoint-mutations.ts";

/** A tensor as its bytes say. */
export interface NaiveTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sha256: string;
  readonly values: Float32Array;
}

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/**
 * The tensors of a checkpoint, by a reader that shares nothing with the product's: the whole at once, and nothing checked but
 * what a stricter reader must have refused.
 *
 * @throws whatever comes of it, on contents that the product should have refused
 */
export function readNaively(files: CheckpointContents): Map<string, NaiveTensor> {
  const index = files.get("model.safetensors.index.json");
  const map = index === undefined ? undefined : (parseOnce(index).weight_map as Record<string, string>);
  const tensors: [string, NaiveTensor][] = [];
  const placed: [string, string][] = [];
  for (const name of map === undefined ? ["model.safetensors"] : new Set(Object.values(map))) {
    const file = files.get(name) as Buffer;
    const start = 8 + Number(file.readBigUInt64LE(0));
    const { __metadata__: _, ...header } = parseOnce(file.subarray(8, start)) as Header;
    const ranges = Object.values(header).map(({ data_offsets }) => data_offsets);
    const ends = ranges.sort(([a], [b]) => a - b).reduce((end, [from, to]) => (from === end ? to : Number.NaN), 0);
    if (start + ends !== file.byteLength) throw new Error(`the tensors of ${name} do not lie end to end`);
    for (const [tensor, { dtype, shape, data_offsets }] of Object.entries(header)) {
      const bytes = file.subarray(start + data_offsets[0], start + data_offsets[1]);
      const sha256 = createHash("sha256").update(bytes).digest("hex");
      tensors.push([tensor, { dtype, shape, sha256, values: valuesOf(dtype, bytes) }]);
      placed.push([tensor, name]);
    }
  }
  if (map !== undefined && JSON.stringify(placed.sort()) !== JSON.stringify(Object.entries(map).sort())) {
    throw new Error("the index places tensors where they are not");
  }
  return new Map(tensors.sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** @throws when a key of the object, or of an object in it, is written twice */
// biome-ignore lint/suspicious/noExplicitAny: what it is is seen where it is used
function parseOnce(json: Buffer): any {
  const value: unknown = JSON.parse(json.toString());
  // No value of these files has a colon behind a quote; what is written once comes out as it went in.
  const keys = (text: string) => text.split(/"\s*:/).length;
  if (keys(json.toString()) !== keys(JSON.stringify(value))) throw new Error("a key is there twice");
  return value;
}

function valuesOf(dtype: string, bytes: Buffer): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = dtype === "F32" ? 4 : 2;
  const word = new DataView(new ArrayBuffer(4));
  return Float32Array.from({ length: bytes.byteLength / size }, (_, i) => {
    if (dtype === "F32") return view.getFloat32(4 * i, true);
    if (dtype === "F16") return view.getFloat16(2 * i, true);
    word.setUint16(2, view.getUint16(2 * i, true), true);
    return word.getFloat32(0, true);
  });
}
