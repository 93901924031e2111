import type { ModelManifest } from "@persona-mesh/model";
import { OnnxRuntimeError } from "@persona-mesh/onnx";
import { expect, test } from "vitest";
import { requireRunnable, warnOfBatchDependence } from "./precision-support.ts";

type Precision = ModelManifest["precision"];

const FLOAT32 = { kind: "float32" } as const;
const BFLOAT16 = { kind: "bfloat16" } as const;
const INT4 = { kind: "nbits", bits: 4, block: 32 } as const;

test.each<Precision>([
  { name: "float32", linear: FLOAT32, embedding: FLOAT32, head: FLOAT32 },
  { name: "int4", linear: INT4, embedding: FLOAT32, head: INT4 },
])("$name runs on the CPU", (precision) => {
  expect(() => requireRunnable({ precision })).not.toThrow();
});

test.each<Precision>([
  { name: "bfloat16", linear: BFLOAT16, embedding: BFLOAT16, head: BFLOAT16 },
  { name: "int4", linear: INT4, embedding: FLOAT32, head: BFLOAT16 },
])("$name with weights in bfloat16 does not, and the provider that it needs is named", (precision) => {
  expect(() => requireRunnable({ precision })).toThrow(
    expect.objectContaining({
      reason: "PRECISION_UNSUPPORTED",
      metadata: { precision: precision.name, provider: "cpu", neededProvider: "cuda" },
    }),
  );
});

const int8 = (block: 32 | 128): Precision => {
  const format = { kind: "nbits", bits: 8, block } as const;
  return { name: "int8", linear: format, embedding: FLOAT32, head: format };
};

test("blocks that the start-up has not proven are tested, and a machine that fails them is told of", async () => {
  const lines: unknown[] = [];
  const log = { warn: (_fields: unknown, text?: string) => lines.push(text) };
  const tested: unknown[] = [];
  const failing = async (integers: unknown) => {
    tested.push(integers);
    throw new OnnxRuntimeError("SELF_TEST_FAILED", "row 0 differs");
  };
  await warnOfBatchDependence({ precision: int8(32) }, log, failing);
  expect([tested, lines]).toEqual([[], []]);
  await warnOfBatchDependence({ precision: int8(128) }, log, async () => {});
  expect(lines).toEqual([]);
  await warnOfBatchDependence({ precision: int8(128) }, log, failing);
  expect(tested).toEqual([[int8(128).linear, int8(128).head]]);
  expect(lines).toEqual([expect.stringContaining("import with blocks of 32")]);
});

test("another failure of the runtime is not hidden by it", async () => {
  const log = { warn: () => {} };
  const missing = new OnnxRuntimeError("LIBRARY_NOT_FOUND", "no runtime");
  await expect(warnOfBatchDependence({ precision: int8(128) }, log, () => Promise.reject(missing))).rejects.toBe(
    missing,
  );
});
