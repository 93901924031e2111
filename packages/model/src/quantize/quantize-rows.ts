/**
 * Matrices of integers with one scale per block of a row, as MatMulNBits reads them: `w ≈ (q − 2^(bits−1)) · scale`.
 *
 * Blocks without a zero point of their own: trained weights are centred, and a runtime that reads no zero points has
 * a faster kernel. Four bits are few enough that the scale matters more than the largest value: it is searched for.
 */

/** Extents and format of what is quantized. */
export interface QuantizedShape {
  readonly rows: number;
  /** Elements of a row; any number: the last block is filled up with zero points. */
  readonly in: number;
  readonly bits: 4 | 8;
  /** Elements that share a scale, even. */
  readonly block: number;
}

/** Quantized rows. */
export interface QuantizedRows {
  /** uint8[rows, blocks, block · bits / 8]; of two 4-bit values in a byte, the first has the low half. */
  readonly data: Uint8Array;
  /** float32[rows, blocks] */
  readonly scales: Float32Array;
}

/** Blocks of a row. */
export function blocksOf({ in: width, block }: Pick<QuantizedShape, "in" | "block">): number {
  return Math.ceil(width / block);
}

/**
 * Quantize rows of a matrix. Rows do not depend on each other: panels of a matrix give the same bytes as the whole.
 *
 * @param values - float32[rows, in], finite
 * @param into - where to write, of the sizes that {@link QuantizedRows} says; new arrays by default
 * @throws RangeError when an array does not have the size of the shape
 */
export function quantizeRows(
  values: Float32Array,
  shape: QuantizedShape,
  into: QuantizedRows = allocate(shape),
): QuantizedRows {
  const { rows, in: width, bits, block } = shape;
  const blocks = blocksOf(shape);
  const blockBytes = (block * bits) / 8;
  checkLength("values", values.length, rows * width);
  checkLength("data", into.data.length, rows * blocks * blockBytes);
  checkLength("scales", into.scales.length, rows * blocks);
  const quantize = bits === 8 ? quantizeBlock8 : quantizeBlock4;
  for (let row = 0, index = 0; row < rows; row++) {
    for (let first = 0; first < width; first += block, index++) {
      const from = row * width + first;
      const count = Math.min(block, width - first);
      into.scales[index] = quantize(values, from, count, into.data, index * blockBytes, blockBytes);
    }
  }
  return into;
}

/**
 * What quantized rows stand for.
 *
 * @returns float32[rows, in]
 */
export function dequantizeRows({ data, scales }: QuantizedRows, shape: QuantizedShape): Float32Array {
  const { rows, in: width, bits, block } = shape;
  const blocks = blocksOf(shape);
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) {
      const index = row * blocks * block + i;
      const scale = scales[row * blocks + Math.floor(i / block)] as number;
      const byte = data[(index * bits) >> 3] as number;
      const q = bits === 8 ? byte - ZERO_8 : ((byte >> (4 * (index & 1))) & 15) - ZERO_4;
      values[row * width + i] = q * scale;
    }
  }
  return values;
}

/** The smallest float32 with all its bits. */
const MIN_NORMAL = 2 ** -126;

const ZERO_8 = 128;
const ZERO_4 = 8;
/** Two zero points. */
const ZERO_4_PAIR = 0x88;

/** Symmetric: the largest magnitude becomes ±127. @returns the scale */
function quantizeBlock8(
  values: Float32Array,
  from: number,
  count: number,
  data: Uint8Array,
  at: number,
  bytes: number,
): number {
  let largest = 0;
  for (let i = 0; i < count; i++) {
    const magnitude = Math.abs(values[from + i] as number);
    if (magnitude > largest) largest = magnitude;
  }
  const scale = scaleOf(largest / 127);
  const inverse = scale === 0 ? 0 : 1 / scale;
  // Truncation of a positive number after adding a half rounds to the nearest.
  const shift = ZERO_8 + 0.5;
  for (let i = 0; i < count; i++) data[at + i] = ((values[from + i] as number) * inverse + shift) | 0;
  for (let i = count; i < bytes; i++) data[at + i] = ZERO_8;
  return scale;
}

/**
 * Divisors of the largest magnitude that are tried as scales. 8 uses the whole range −8 … 7 on the side of the largest
 * value; more clips it, so that the many small values get finer steps. These five come within 0.5 % of the error that 41
 * between 6 and 12 reach, on normal, Laplace and uniform values, in blocks of 32 and of 128.
 */
const DIVISORS = Float64Array.of(7.2, 7.8, 8.4, 9, 9.8);

/** The scale of least squared error among some. @returns the scale, of either sign */
function quantizeBlock4(
  values: Float32Array,
  from: number,
  count: number,
  data: Uint8Array,
  at: number,
  bytes: number,
): number {
  const scale = searchScale4(values, from, count);
  const inverse = scale === 0 ? 0 : 1 / scale;
  const shift = ZERO_4 + 0.5;
  const whole = count & ~1;
  for (let i = 0; i < whole; i += 2) {
    const low = clamp4((values[from + i] as number) * inverse + shift);
    const high = clamp4((values[from + i + 1] as number) * inverse + shift);
    data[at + (i >> 1)] = low | (high << 4);
  }
  if (whole < count) {
    data[at + (whole >> 1)] = clamp4((values[from + whole] as number) * inverse + shift) | (ZERO_4 << 4);
  }
  for (let i = (count + 1) >> 1; i < bytes; i++) data[at + i] = ZERO_4_PAIR;
  return scale;
}

/**
 * For each candidate the values are rounded, and the scale that fits these integers best is Σxq / Σq², which explains
 * (Σxq)² / Σq² of the squares. The candidate that explains most wins.
 */
function searchScale4(values: Float32Array, from: number, count: number): number {
  let extreme = 0;
  for (let i = 0; i < count; i++) {
    const value = values[from + i] as number;
    if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  }
  if (extreme === 0) return 0;
  let best = 0;
  let scale = 0;
  for (let candidate = 0; candidate < DIVISORS.length; candidate++) {
    // Negative: the value of largest magnitude becomes −8, the end of the range that has one step more.
    const inverse = -(DIVISORS[candidate] as number) / extreme;
    let products = 0;
    let squares = 0;
    for (let i = 0; i < count; i++) {
      const value = values[from + i] as number;
      const q = clamp4(value * inverse + (ZERO_4 + 0.5)) - ZERO_4;
      products += value * q;
      squares += q * q;
    }
    const explained = (products * products) / squares;
    if (explained > best) {
      best = explained;
      scale = products / squares;
    }
  }
  return scaleOf(scale);
}

/** float32; what would be subnormal is 0: it has too few bits to divide by, and some kernels flush it anyway. */
function scaleOf(scale: number): number {
  return Math.abs(scale) < MIN_NORMAL ? 0 : Math.fround(scale);
}

/** Truncated, within 0 … 15. */
function clamp4(value: number): number {
  return Math.max(0, Math.min(15, value | 0));
}

function allocate(shape: QuantizedShape): QuantizedRows {
  const count = shape.rows * blocksOf(shape);
  return { data: new Uint8Array((count * shape.block * shape.bits) / 8), scales: new Float32Array(count) };
}

function checkLength(what: string, length: number, expected: number): void {
  if (length !== expected) throw new RangeError(`${what} has ${length} elements, its shape needs ${expected}`);
}
