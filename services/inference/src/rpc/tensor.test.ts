import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { DataType, TensorSchema } from "@persona-mesh/protocol";
import { describe, expect, test } from "vitest";
import { tensorOf, vectorFrom } from "./tensor.ts";

describe("vectorFrom", () => {
  const fit = () => tensorOf(Float32Array.of(1, -2, 0.5), [3]);

  test("reads what tensorOf writes, also from bytes at any offset of a message", () => {
    const bytes = toBinary(TensorSchema, fit());
    for (let offset = 0; offset < 4; offset++) {
      const moved = new Uint8Array(offset + bytes.length);
      moved.set(bytes, offset);
      const received = fromBinary(TensorSchema, moved.subarray(offset));
      expect([...vectorFrom(received, "direction")]).toEqual([1, -2, 0.5]);
    }
  });

  test("gives values of its own: the message can go", () => {
    const tensor = fit();
    const vector = vectorFrom(tensor, "direction");
    tensor.data.fill(0);
    expect([...vector]).toEqual([1, -2, 0.5]);
  });

  test("values are little-endian, as the contract says", () => {
    const data = Uint8Array.of(0, 0, 0x80, 0x3f);
    expect([...vectorFrom(create(TensorSchema, { dataType: DataType.FLOAT32, shape: [1], data }), "d")]).toEqual([1]);
  });

  test.each([
    ["nothing", undefined],
    ["no data type", create(TensorSchema, { shape: [1], data: new Uint8Array(4) })],
    ["no shape", create(TensorSchema, { dataType: DataType.FLOAT32, data: new Uint8Array(4) })],
    ["two extents", create(TensorSchema, { dataType: DataType.FLOAT32, shape: [1, 1], data: new Uint8Array(4) })],
    ["too few bytes", create(TensorSchema, { dataType: DataType.FLOAT32, shape: [2], data: new Uint8Array(7) })],
    ["too many bytes", create(TensorSchema, { dataType: DataType.FLOAT32, shape: [2], data: new Uint8Array(9) })],
    ["an extent beyond any memory", create(TensorSchema, { dataType: DataType.FLOAT32, shape: [4_294_967_295] })],
  ])("%s is refused, naming the field", (_, tensor) => {
    expect(() => vectorFrom(tensor, "terms[0].direction")).toThrow(
      expect.objectContaining({
        reason: "VECTOR_FORMAT",
        fieldViolations: [expect.objectContaining({ field: "terms[0].direction" })],
      }),
    );
  });
});
