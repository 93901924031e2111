import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { SteeringError } from "../error.ts";
import {
  ARCHITECTURE,
  type GgufSpec,
  ggufFile,
  type TensorSpec,
  text,
  textKey,
  u32,
  u64,
  WIDTH,
} from "../testing/gguf-file.ts";
import { reasonOf } from "../testing/support.ts";
import { MAX_LAYER_COUNT } from "../vector-manifest.ts";
import { norm } from "../vector-math.ts";
import { type ControlVector, type ReadOptions, readControlVector } from "./control-vector.ts";
import foreign from "./fixtures/foreign.json" with { type: "json" };

const OPTIONS: ReadOptions = { producer: "repeng", hiddenSize: WIDTH, layerCount: 6 };
const HUGE = 2n ** 60n;

test("the file that the tests below spoil is good", () => {
  expect([...readControlVector(ggufFile(), OPTIONS).directions.keys()]).toEqual([1, 2]);
  expect(readControlVector(ggufFile({ version: 2 }), OPTIONS).directions.size).toBe(2);
});

const tensor = (change: TensorSpec) => ({ tensors: [{ name: "direction.1" }, change] });
const key = (...parts: Buffer[]) => ({ keys: [ARCHITECTURE, Buffer.concat(parts)] });

test.each<[string, GgufSpec, string]>([
  ["version 1, of other counts", { version: 1 }, "VECTOR_HEADER_INVALID"],
  ["an unknown version", { version: 4 }, "VECTOR_HEADER_INVALID"],
  ["no tensors", { tensors: [] }, "VECTOR_TENSORS_INVALID"],
  [
    "more tensors than a model has blocks",
    { tensors: Array.from({ length: MAX_LAYER_COUNT + 1 }, (_, i) => ({ name: `direction.${i}` })) },
    "VECTOR_TENSORS_INVALID",
  ],
  ["2^60 tensors", { tensorCount: HUGE }, "VECTOR_HEADER_INVALID"],
  ["2^40 tensors", { tensorCount: 2n ** 40n }, "VECTOR_TENSORS_INVALID"],
  ["a tensor more than it has", { tensorCount: 3 }, "VECTOR_TENSORS_INVALID"],
  ["a tensor less than it has", { tensorCount: 1 }, "VECTOR_TENSORS_INVALID"],
  ["too many keys", { keyCount: 4097 }, "VECTOR_HEADER_INVALID"],
  ["2^60 keys", { keyCount: HUGE }, "VECTOR_HEADER_INVALID"],
  ["a key twice", { keys: [ARCHITECTURE, ARCHITECTURE] }, "VECTOR_HEADER_INVALID"],
  ["no architecture", { keys: [] }, "VECTOR_HEADER_INVALID"],
  [
    "an architecture that is a number",
    { keys: [Buffer.concat([text("general.architecture"), u32(4), u32(7)])] },
    "VECTOR_HEADER_INVALID",
  ],
  ["a long key", key(text("k".repeat(257)), u32(4), u32(1)), "VECTOR_HEADER_INVALID"],
  ["a key of 2^60 bytes", key(u64(HUGE)), "VECTOR_HEADER_INVALID"],
  ["a key that is no UTF-8", key(u64(2), Buffer.from([0xff, 0xfe]), u32(4), u32(1)), "VECTOR_HEADER_INVALID"],
  ["a value of 2^60 bytes", key(text("k"), u32(8), u64(HUGE)), "VECTOR_HEADER_INVALID"],
  ["a value of 2^30 bytes", key(text("k"), u32(8), u64(2 ** 30)), "VECTOR_HEADER_INVALID"],
  ["a value that goes past the end", key(text("k"), u32(8), u64(2 ** 19)), "VECTOR_FILE_TRUNCATED"],
  ["a value of an unknown type", key(text("k"), u32(13), u32(1)), "VECTOR_HEADER_INVALID"],
  ["a list of 2^50 numbers", key(text("k"), u32(9), u32(4), u64(2n ** 50n)), "VECTOR_FILE_TRUNCATED"],
  ["a list of 2^60 numbers", key(text("k"), u32(9), u32(4), u64(HUGE)), "VECTOR_HEADER_INVALID"],
  ["a list of 2^50 texts", key(text("k"), u32(9), u32(8), u64(2n ** 50n)), "VECTOR_FILE_TRUNCATED"],
  ["a list of lists", key(text("k"), u32(9), u32(9), u64(1), u32(4), u64(0)), "VECTOR_HEADER_INVALID"],
  ["a list of an unknown type", key(text("k"), u32(9), u32(99), u64(1)), "VECTOR_HEADER_INVALID"],
  ["a model hint that is true", key(text("controlvector.model_hint"), u32(7), Buffer.of(1)), "VECTOR_HEADER_INVALID"],
  ["an alignment of 64 bits", key(text("general.alignment"), u32(10), u64(32)), "VECTOR_HEADER_INVALID"],
  ["alignment 0", key(text("general.alignment"), u32(4), u32(0)), "VECTOR_HEADER_INVALID"],
  ["alignment 24", key(text("general.alignment"), u32(4), u32(24)), "VECTOR_HEADER_INVALID"],
  ["alignment 2^31", key(text("general.alignment"), u32(4), u32(2 ** 31)), "VECTOR_HEADER_INVALID"],
  ["an alignment that is text", key(text("general.alignment"), u32(8), text("32")), "VECTOR_HEADER_INVALID"],
  ["a model hint that is a number", key(text("controlvector.model_hint"), u32(4), u32(1)), "VECTOR_HEADER_INVALID"],
  [
    "a long model hint",
    { keys: [ARCHITECTURE, textKey("controlvector.model_hint", "h".repeat(129))] },
    "VECTOR_HEADER_INVALID",
  ],
  [
    "a model hint of two lines",
    { keys: [ARCHITECTURE, textKey("controlvector.model_hint", "a\nb")] },
    "VECTOR_HEADER_INVALID",
  ],
  [
    "a note of EasySteer that is no JSON",
    { keys: [ARCHITECTURE, textKey("controlvector.easysteer", "{")] },
    "VECTOR_PRODUCER_MISMATCH",
  ],
  ["a long tensor name", tensor({ name: "d".repeat(65) }), "VECTOR_HEADER_INVALID"],
  ["a tensor twice", tensor({ name: "direction.1" }), "VECTOR_TENSORS_INVALID"],
  ["a number that is spelt otherwise", tensor({ name: "direction.02" }), "VECTOR_TENSORS_INVALID"],
  ["a negative number", tensor({ name: "direction.-2" }), "VECTOR_TENSORS_INVALID"],
  ["a number with more behind it", tensor({ name: "direction.2.weight" }), "VECTOR_TENSORS_INVALID"],
  ["a number beyond all models", tensor({ name: "direction.99999" }), "VECTOR_TENSORS_INVALID"],
  ["a number beyond this model", tensor({ name: "direction.6" }), "LAYER_OUT_OF_RANGE"],
  ["a tensor of no dimensions", tensor({ name: "direction.2", shape: [] }), "VECTOR_TENSORS_INVALID"],
  ["a tensor of five dimensions", tensor({ name: "direction.2", shape: [20, 1, 1, 1, 1] }), "VECTOR_TENSORS_INVALID"],
  [
    "2^32 dimensions",
    {
      tensors: [],
      tensorCount: 1,
      keys: [ARCHITECTURE, Buffer.concat([text("k"), u32(4), u32(1), text("direction.1"), u32(2 ** 32 - 1)])],
    },
    "VECTOR_TENSORS_INVALID",
  ],
  ["a matrix of one row", tensor({ name: "direction.2", shape: [20, 1] }), "VECTOR_TENSORS_INVALID"],
  ["a tensor of width 0", { ...tensor({ name: "direction.2", shape: [0] }), dataBytes: 96 }, "VECTOR_WIDTH_MISMATCH"],
  ["another width", tensor({ name: "direction.2", shape: [21] }), "VECTOR_WIDTH_MISMATCH"],
  ["2^50 numbers", tensor({ name: "direction.2", shape: [2 ** 50] }), "VECTOR_FILE_TRUNCATED"],
  ["2^60 numbers", tensor({ name: "direction.2", shape: [HUGE] }), "VECTOR_HEADER_INVALID"],
  [
    "2^200 numbers",
    tensor({ name: "direction.2", shape: [2 ** 50, 2 ** 50, 2 ** 50, 2 ** 50] }),
    "VECTOR_FILE_TRUNCATED",
  ],
  ["an unknown element type", tensor({ name: "direction.2", type: 99 }), "VECTOR_TENSORS_INVALID"],
  ["half the bytes for an element", tensor({ name: "direction.2", type: 1 }), "VECTOR_TENSORS_INVALID"],
  ["overlapping tensors", tensor({ name: "direction.2", offset: 0 }), "VECTOR_TENSORS_INVALID"],
  ["a tensor in the padding", tensor({ name: "direction.2", offset: 80 }), "VECTOR_TENSORS_INVALID"],
  ["a gap", { ...tensor({ name: "direction.2", offset: 192 }), dataBytes: 288 }, "VECTOR_TENSORS_INVALID"],
  ["an offset of 2^50", tensor({ name: "direction.2", offset: 2 ** 50 }), "VECTOR_TENSORS_INVALID"],
  ["an offset of 2^64 − 1", tensor({ name: "direction.2", offset: 2n ** 64n - 1n }), "VECTOR_HEADER_INVALID"],
  [
    "tensors in another order than their data",
    {
      tensors: [
        { name: "direction.1", offset: 96 },
        { name: "direction.2", offset: 0 },
      ],
    },
    "VECTOR_TENSORS_INVALID",
  ],
  ["data that ends early", { dataBytes: 172 }, "VECTOR_FILE_TRUNCATED"],
  ["data that goes on", { dataBytes: 196 }, "VECTOR_TENSORS_INVALID"],
])("GGUF with %s is refused", (_, spec, reason) => {
  expect(reasonOf(() => readControlVector(ggufFile(spec), OPTIONS))).toBe(reason);
});

test("a header over the limit is refused, whatever the file's length", () => {
  const long = { keys: [ARCHITECTURE, textKey("k", "x".repeat(1 << 20))] };
  expect(reasonOf(() => readControlVector(ggufFile(long), OPTIONS))).toBe("VECTOR_FILE_TOO_LARGE");
});

describe("safetensors", () => {
  const file = (header: object | string, dataBytes: number) => {
    const json = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
    return Buffer.concat([u64(json.length), json, Buffer.alloc(dataBytes, 0x3f)]);
  };
  const f32 = (shape: readonly number[], ...offsets: readonly number[]) => ({
    dtype: "F32",
    shape,
    data_offsets: offsets,
  });
  const good = f32([WIDTH], 0, 80);

  test("that the tests below spoil are good", () => {
    const bytes = file({ "direction.2": f32([WIDTH], 80, 160), "direction.1": good }, 160);
    expect([...readControlVector(bytes, OPTIONS).directions.keys()]).toEqual([1, 2]);
  });

  test.each<[string, object | string, number, string]>([
    ["no tensors", {}, 0, "VECTOR_TENSORS_INVALID"],
    [
      "overlapping tensors",
      { "direction.1": good, "direction.2": f32([WIDTH], 40, 120) },
      120,
      "VECTOR_TENSORS_INVALID",
    ],
    ["one place for two", { "direction.1": good, "direction.2": good }, 80, "VECTOR_TENSORS_INVALID"],
    ["a gap", { "direction.1": good, "direction.2": f32([WIDTH], 84, 164) }, 164, "VECTOR_TENSORS_INVALID"],
    ["bytes in front", { "direction.1": f32([WIDTH], 8, 88) }, 88, "VECTOR_TENSORS_INVALID"],
    [
      "a key said twice",
      `{"direction.1":${JSON.stringify(f32([WIDTH], 80, 160))},"direction.1":${JSON.stringify(good)}}`,
      160,
      "VECTOR_TENSORS_INVALID",
    ],
    ["a place longer than the shape", { "direction.1": f32([WIDTH], 0, 84) }, 84, "VECTOR_TENSORS_INVALID"],
    ["a place that ends before it starts", { "direction.1": f32([WIDTH], 80, 0) }, 80, "VECTOR_TENSORS_INVALID"],
    ["a place of 2^53", { "direction.1": f32([2 ** 51], 0, 2 ** 53) }, 80, "VECTOR_TENSORS_INVALID"],
    ["2^40 numbers", { "direction.1": f32([2 ** 40], 0, 2 ** 42) }, 80, "VECTOR_FILE_TRUNCATED"],
    ["a scalar", { "direction.1": f32([], 0, 4) }, 4, "VECTOR_TENSORS_INVALID"],
    ["half a number", { "direction.1": f32([0.5], 0, 2) }, 2, "VECTOR_TENSORS_INVALID"],
    ["float64", { "direction.1": { ...f32([10], 0, 80), dtype: "F64" } }, 80, "VECTOR_TENSORS_INVALID"],
    ["a tensor that is null", { "direction.1": null }, 0, "VECTOR_TENSORS_INVALID"],
    ["metadata that is a list", { __metadata__: [], "direction.1": good }, 80, "VECTOR_HEADER_INVALID"],
    [
      "a model hint that is a number",
      { __metadata__: { model_hint: 1 }, "direction.1": good },
      80,
      "VECTOR_HEADER_INVALID",
    ],
    ["a header that is no JSON", "{?}", 0, "VECTOR_HEADER_INVALID"],
    [
      "more tensors than a model has blocks",
      Object.fromEntries(Array.from({ length: MAX_LAYER_COUNT + 1 }, (_, i) => [`direction.${i}`, f32([0], 0, 0)])),
      0,
      "VECTOR_TENSORS_INVALID",
    ],
    ["a header over the limit", `{"k":"${"x".repeat(1 << 19)}"}`, 0, "VECTOR_FILE_TOO_LARGE"],
  ])("with %s are refused", (_, header, dataBytes, reason) => {
    expect(reasonOf(() => readControlVector(file(header, dataBytes), OPTIONS))).toBe(reason);
  });

  test("are not what begins with eight zeros", () => {
    expect(reasonOf(() => readControlVector(new Uint8Array(64), OPTIONS))).toBe("VECTOR_FORMAT_UNKNOWN");
  });
});

test("a promise of much is refused without making room for it", () => {
  const before = process.memoryUsage().arrayBuffers;
  const spec = {
    tensors: [
      { name: "direction.1", shape: [65_536] },
      { name: "direction.2", shape: [65_536], offset: 262_144 },
    ],
  };
  const wide = { ...OPTIONS, hiddenSize: 65_536 };
  expect(reasonOf(() => readControlVector(ggufFile({ ...spec, dataBytes: 96 }), wide))).toBe("VECTOR_FILE_TRUNCATED");
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1 << 20);
});

test("a model that is none is a fault of the program", () => {
  for (const change of [
    { hiddenSize: 0 },
    { hiddenSize: 2.5 },
    { layerCount: 0 },
    { layerCount: 513 },
    { hiddenSize: 65_537 },
  ]) {
    expect(() => readControlVector(ggufFile(), { ...OPTIONS, ...change })).toThrow(RangeError);
  }
});

describe("a spoilt file", () => {
  const model = { hiddenSize: foreign.hiddenSize, layerCount: foreign.layerCount };
  const files = foreign.read.map(({ file, producer, name }) => ({
    name,
    bytes: Uint8Array.from(Buffer.from(file, "base64")),
    options: { ...model, producer } as ReadOptions,
  }));
  const anyFile = fc.constantFrom(...files);

  /**
   * Refused with a SteeringError, or read as what the bytes say. What the bytes say is found without the reader: the names
   * are searched for as text, and the numbers lie at the end, where the good file has them.
   */
  function survives(good: (typeof files)[number], bytes: Uint8Array): void {
    let read: ControlVector;
    try {
      read = readControlVector(bytes, good.options);
    } catch (error) {
      expect(error).toBeInstanceOf(SteeringError);
      expect((error as Error).message.length).toBeLessThan(500);
      return;
    }
    const before = readControlVector(good.bytes, good.options);
    expect(read.directions.size).toBe(before.directions.size);
    for (const [layer, { direction, norm: length }] of read.directions) {
      expect(Number.isFinite(length) && length > 0).toBe(true);
      expect(norm(direction)).toBeCloseTo(1, 5);
      if (!before.directions.has(layer)) {
        // Another layer only where the name itself was changed to it.
        const number = good.options.producer === "llama.cpp" ? layer + 1 : layer;
        expect(Buffer.from(bytes).includes(`direction.${number}`)).toBe(true);
      }
    }
    if (headerIsSame(good.bytes, bytes)) expect([...read.directions.keys()]).toEqual([...before.directions.keys()]);
    // A tensor of float16 may be said to be of bfloat16, which is as long: then its numbers are others.
    if (dataIsSame(good.bytes, bytes) && !good.name.includes("float16")) {
      // The same directions, if not under the same numbers.
      const norms = (vector: ControlVector) => [...vector.directions.values()].map((each) => each.norm).sort();
      expect(norms(read)).toEqual(norms(before));
    }
  }

  /** Where the first number lies: behind it are only numbers and padding. */
  function dataStart(bytes: Uint8Array): number {
    const last = Buffer.from(bytes).lastIndexOf("direction.");
    const matrix = Buffer.from(bytes).lastIndexOf('"steering"');
    return Math.max(last, matrix) + 128;
  }

  const headerIsSame = (a: Uint8Array, b: Uint8Array) =>
    Buffer.compare(a.subarray(0, dataStart(a)), b.subarray(0, dataStart(a))) === 0;
  const dataIsSame = (a: Uint8Array, b: Uint8Array) =>
    a.length === b.length && Buffer.compare(a.subarray(headerEnd(a)), b.subarray(headerEnd(a))) === 0;

  /** Where the last name ends. */
  function headerEnd(bytes: Uint8Array): number {
    return dataStart(bytes) - 128;
  }

  test("by one byte never crashes the reader, nor is read as what it is not", () => {
    fc.assert(
      fc.property(anyFile, fc.nat(), fc.integer({ min: 1, max: 255 }), (good, position, flip) => {
        const bytes = good.bytes.slice();
        const at = position % bytes.length;
        bytes[at] = (bytes[at] as number) ^ flip;
        survives(good, bytes);
      }),
      { numRuns: 6000 },
    );
  });

  test("in its header, bit by bit, is refused or read as what it says", () => {
    for (const good of files) {
      for (let at = 0; at < Math.min(headerEnd(good.bytes) + 48, good.bytes.length); at++) {
        for (const bit of [1, 0x80]) {
          const bytes = good.bytes.slice();
          bytes[at] = (bytes[at] as number) ^ bit;
          survives(good, bytes);
        }
      }
    }
  });

  test("by numbers of eight bytes that mean much never crashes the reader", () => {
    const extreme = fc.constantFrom(0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n);
    fc.assert(
      fc.property(anyFile, fc.nat(), extreme, (good, position, value) => {
        const bytes = good.bytes.slice();
        new DataView(bytes.buffer).setBigUint64(position % (Math.min(400, bytes.length) - 8), value, true);
        survives(good, bytes);
      }),
      { numRuns: 3000 },
    );
  });

  test("by cutting and splicing never crashes the reader", () => {
    const never = (bytes: Uint8Array, options: ReadOptions) => {
      try {
        readControlVector(bytes, options);
      } catch (error) {
        expect(error).toBeInstanceOf(SteeringError);
      }
    };
    fc.assert(
      fc.property(anyFile, fc.nat(), fc.nat(), fc.uint8Array({ maxLength: 64 }), (good, a, b, middle) => {
        const [from, to] = [a % good.bytes.length, b % good.bytes.length];
        never(Uint8Array.from([...good.bytes.subarray(0, from), ...middle, ...good.bytes.subarray(to)]), good.options);
      }),
      { numRuns: 1500 },
    );
    const magic = fc.constantFrom("GGUF", "GGUF\u0003\0\0\0", "PK\u0003\u0004", "(dp0\n", "\u0000\0\0\0\0\0\0\0{");
    fc.assert(
      fc.property(magic, fc.uint8Array({ maxLength: 200 }), (start, rest) => {
        never(Uint8Array.from([...Buffer.from(start, "latin1"), ...rest]), OPTIONS);
      }),
      { numRuns: 1500 },
    );
  });

  test("of safetensors with any JSON for a header never crashes the reader", () => {
    const entry = fc.record(
      {
        dtype: fc.oneof(fc.constantFrom("F32", "F16", "BF16"), fc.jsonValue()),
        shape: fc.oneof(fc.array(fc.integer({ min: -1, max: 40 }), { maxLength: 3 }), fc.jsonValue()),
        data_offsets: fc.oneof(fc.array(fc.integer({ min: -1, max: 100 }), { maxLength: 3 }), fc.jsonValue()),
      },
      { requiredKeys: [] },
    );
    const name = fc.constantFrom("direction.1", "direction.2", "__metadata__", "__proto__", "constructor", "a");
    fc.assert(
      fc.property(
        fc.dictionary(name, fc.oneof(entry, fc.jsonValue())),
        fc.uint8Array({ maxLength: 160 }),
        (header, data) => {
          const json = Buffer.from(JSON.stringify(header));
          const bytes = Buffer.concat([u64(json.length), json, data]);
          try {
            readControlVector(bytes, OPTIONS);
          } catch (error) {
            expect(error).toBeInstanceOf(SteeringError);
          }
        },
      ),
      { numRuns: 1500 },
    );
  });
});
