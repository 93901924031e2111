import { expect, it } from "vitest";
import { FLOAT32, precisionOf } from "./precision.ts";

it("gives integers small blocks, and embeddings and heads of eight bits, unless asked otherwise", () => {
  const nbits = (bits: number, block: number) => ({ kind: "nbits", bits, block });
  expect(precisionOf("float32")).toEqual(FLOAT32);
  expect(precisionOf("int8")).toEqual({
    name: "int8",
    linear: nbits(8, 32),
    embedding: nbits(8, 32),
    head: nbits(8, 32),
  });
  expect(precisionOf("int4")).toEqual({
    name: "int4",
    linear: nbits(4, 32),
    embedding: nbits(8, 32),
    head: nbits(8, 32),
  });
  expect(precisionOf("int4", { block: 128, embedding: "float32", head: "int4" })).toEqual({
    name: "int4",
    linear: nbits(4, 128),
    embedding: { kind: "float32" },
    head: nbits(4, 128),
  });
  expect(precisionOf("bfloat16").linear).toEqual({ kind: "bfloat16" });
});

it("refuses what is not there to choose", () => {
  expect(() => precisionOf("int2" as "int4")).toThrow('there is no precision "int2"; choose float32, int8');
  expect(() => precisionOf("int4", { block: 64 as 32 })).toThrow("blocks of 64 are not supported; choose 32 or 128");
  expect(() => precisionOf("int8", { head: "bfloat16" as "int8" })).toThrow("the head cannot be bfloat16");
  expect(() => precisionOf("bfloat16", { block: 32 })).toThrow("precision bfloat16 has no choice of block");
});
