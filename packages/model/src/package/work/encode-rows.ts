import { convertToFloat32, ELEMENT_BYTES, type ElementType } from "../../checkpoint/element-types.ts";
import type { MatrixFormat } from "../../graph/index.ts";
import { blocksOf, quantizeRows } from "../../quantize/quantize-rows.ts";
import { roundToBfloat16 } from "./bfloat16.ts";
import type { Scratch } from "./scratch.ts";

/**
 * Turn rows of a checkpoint's tensor into the bytes of the tensors that store them.
 *
 * @param raw - whole rows of `width` elements, row-major
 * @returns bytes for each stored tensor of the format, in their order; in `scratch`, or `raw` itself where nothing changes
 */
export function encodeRows(
  format: MatrixFormat,
  dtype: ElementType,
  raw: Uint8Array<ArrayBuffer>,
  width: number,
  scratch: Scratch,
): Uint8Array[] {
  if (format.kind === "float32" && dtype === "F32") return [raw];
  if (format.kind === "bfloat16" && dtype === "BF16") return [raw];
  const count = raw.byteLength / ELEMENT_BYTES[dtype];
  const values = scratch.float32("values", count);
  convertToFloat32(dtype, raw, values);
  switch (format.kind) {
    case "float32":
      return [bytesOf(values)];
    case "bfloat16": {
      const rounded = scratch.bytes("rounded", 2 * count);
      roundToBfloat16(values, new Uint16Array(rounded.buffer, 0, count));
      return [rounded];
    }
    case "nbits": {
      const { bits, block } = format;
      const shape = { rows: count / width, in: width, bits, block };
      const blocks = shape.rows * blocksOf(shape);
      const data = scratch.bytes("data", (blocks * block * bits) / 8);
      const scales = scratch.float32("scales", blocks);
      quantizeRows(values, shape, { data, scales });
      return [data, bytesOf(scales)];
    }
  }
}

function bytesOf(values: Float32Array<ArrayBuffer>): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
