import type { ModelManifest } from "@persona-mesh/model";
import { expect, test } from "vitest";
import { requireRunnable } from "./precision-support.ts";

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
