import { describe, expect, it } from "vitest";
import { convertToFloat32, type ElementType, elementAt, findNonFinite, isElementType } from "./element-types.ts";

/** Value of 16 bits by the definition of the formats: sign, exponent with a bias, fraction. */
function defined(bits: number, exponentBits: number): number {
  const fractionBits = 15 - exponentBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = bits >= 0x8000 ? -1 : 1;
  const exponent = (bits & 0x7fff) >> fractionBits;
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

const everyHalf = Uint16Array.from({ length: 65_536 }, (_, bits) => bits);
const bytesOf = (array: ArrayBufferView<ArrayBuffer>) =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
/** The same bytes at an odd address. */
const misaligned = (bytes: Uint8Array) => {
  const moved = new Uint8Array(bytes.byteLength + 1).subarray(1);
  moved.set(bytes);
  return moved;
};

describe("convertToFloat32", () => {
  it.each<[ElementType, number]>([
    ["F16", 5],
    ["BF16", 8],
  ])("is exact for each of the 65,536 values of %s", (type, exponentBits) => {
    const expected = Float32Array.from(everyHalf, (bits) => defined(bits, exponentBits));
    for (const bytes of [bytesOf(everyHalf), misaligned(bytesOf(everyHalf))]) {
      const values = new Float32Array(65_536);
      convertToFloat32(type, bytes, values);
      // Object.is tells -0 from 0, and takes every NaN for one.
      expect(values.findIndex((value, i) => !Object.is(value, expected[i]))).toBe(-1);
    }
  });

  it("writes its range of the target and nothing beside it", () => {
    const source = Float32Array.of(1, -2, 3.5);
    const halves = new Float16Array(source);
    const brains = new Uint16Array(Array.from(new Uint32Array(source.buffer), (bits) => bits >>> 16));
    const sources: [ElementType, Uint8Array][] = [
      ["F32", bytesOf(source)],
      ["F16", bytesOf(halves)],
      ["BF16", bytesOf(brains)],
    ];
    for (const [type, bytes] of sources) {
      for (const at of [0, 1, 3]) {
        const buffer = new Float32Array(8).fill(7);
        // A target in the middle of its buffer, as a slice of a larger matrix is.
        convertToFloat32(type, misaligned(bytes), buffer.subarray(1, 7), at);
        expect([...buffer]).toEqual([...Array(1 + at).fill(7), 1, -2, 3.5, ...Array(4 - at).fill(7)]);
      }
      expect(() => convertToFloat32(type, bytes, new Float32Array(4), 2)).toThrow(RangeError);
      expect(() => convertToFloat32(type, bytes.subarray(1), new Float32Array(4))).toThrow(RangeError);
    }
  });
});

describe("findNonFinite", () => {
  it.each<[ElementType, number]>([
    ["F16", 5],
    ["BF16", 8],
  ])("knows which of all %s values are finite", (type, exponentBits) => {
    for (const bits of everyHalf) {
      const pair = Uint16Array.of(0, bits);
      const expected = Number.isFinite(defined(bits, exponentBits)) ? -1 : 1;
      if (findNonFinite(type, bytesOf(pair)) !== expected) expect.fail(`${type} ${bits}`);
    }
  });

  const infinite: [ElementType, number, number][] = [
    ["F32", 4, 0x7f800000],
    ["F32", 4, 0xff800001],
    ["F32", 4, 0x7fffffff],
    ["F16", 2, 0x7c00],
    ["F16", 2, 0xfe00],
    ["BF16", 2, 0xff80],
    ["BF16", 2, 0x7fc0],
  ];
  it.each(infinite)("finds the first in %s, wherever it is", (type, size, bits) => {
    // Longer than a block, and half a word longer than whole words where there are halves.
    const length = 20_001;
    const largest = { F32: 0x7f7fffff, F16: 0xfbff, BF16: 0xff7f }[type];
    for (const index of [0, 1, 2, 4095, 4096, 8191, 8192, 19_999, 20_000]) {
      const values = size === 4 ? new Uint32Array(length).fill(largest) : new Uint16Array(length).fill(largest);
      expect(findNonFinite(type, bytesOf(values))).toBe(-1);
      values[index] = bits;
      values[20_000] = bits;
      expect(findNonFinite(type, bytesOf(values))).toBe(index);
      expect(findNonFinite(type, misaligned(bytesOf(values)))).toBe(index);
      expect(elementAt(type, bytesOf(values), index)).not.toSatisfy(Number.isFinite);
    }
  });

  it("takes no elements, and refuses parts of one", () => {
    expect(findNonFinite("BF16", new Uint8Array(0))).toBe(-1);
    expect(() => findNonFinite("BF16", new Uint8Array(3))).toThrow(RangeError);
    expect(() => findNonFinite("F32", new Uint8Array(6))).toThrow(RangeError);
  });
});

describe("isElementType", () => {
  it.each(["F64", "I8", "U8", "F8_E4M3", "f32", "toString", ""])("refuses %j", (dtype) => {
    expect(isElementType(dtype)).toBe(false);
  });
});
