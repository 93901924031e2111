import { GraphBuilder } from "../../graph/index.ts";
import { runtimeVersion } from "../environment.ts";
import { OnnxRuntimeError } from "../error.ts";
import { Session } from "../session.ts";
import type { SessionOptions } from "../session-options.ts";
import { Tensor } from "../tensor.ts";
import { pseudoRandom } from "./pseudo-random.ts";

/** Wide enough that kernels cut both sides into blocks, with remainders on each. */
const INPUTS = 331;
const OUTPUTS = 1030;

/** Around the row counts at which kernels change: one row, one register block, several. */
const BATCHES = [2, 3, 5, 16, 64];

/**
 * A row of a product with constant weights has the same bits alone and at the first, a middle and the last place of
 * larger batches.
 *
 * @throws OnnxRuntimeError SELF_TEST_FAILED
 */
export async function checkBatchIndependence(options: SessionOptions): Promise<void> {
  using session = await Session.load(productGraph(), options);
  const row = pseudoRandom(1, INPUTS);
  const alone = await product(session, row, 1);
  for (const batch of BATCHES) {
    const rows = pseudoRandom(2, batch * INPUTS);
    const places = [...new Set([0, batch >> 1, batch - 1])];
    for (const place of places) rows.set(row, place * INPUTS);
    const together = await product(session, rows, batch);
    for (const place of places) {
      if (sameBits(alone, together.subarray(place * OUTPUTS, (place + 1) * OUTPUTS))) continue;
      throw new OnnxRuntimeError(
        "SELF_TEST_FAILED",
        `ONNX Runtime ${runtimeVersion()}: row ${place} of a batch of ${batch} differs from the same row alone, so ` +
          "a result would depend on what else is in the batch; weights must be prepacked (session.disable_prepacking)",
      );
    }
  }
}

/** x float32[batch, INPUTS] → y float32[batch, OUTPUTS] */
function productGraph(): Uint8Array {
  const graph = new GraphBuilder("batch-independence");
  const x = graph.input("x", "float32", ["batch", INPUTS]);
  const weight = graph.constant("weight", "float32", [INPUTS, OUTPUTS], pseudoRandom(3, INPUTS * OUTPUTS));
  for (const y of graph.ops("MatMul", [x, weight], [{ global: "y" }])) graph.expose(y, "float32", ["batch", OUTPUTS]);
  return graph.build();
}

async function product(session: Session, rows: Float32Array, batch: number): Promise<Float32Array> {
  const y = new Float32Array(batch * OUTPUTS);
  using input = Tensor.from("float32", [batch, INPUTS], rows);
  using output = Tensor.from("float32", [batch, OUTPUTS], y);
  using binding = session.bind({ inputs: { x: input }, outputs: { y: output } });
  await session.run(binding);
  return y;
}

/** Compares bits, so that NaN equals itself and 0 differs from -0. */
export function sameBits(a: Float32Array, b: Float32Array): boolean {
  const left = new Uint32Array(a.buffer, a.byteOffset, a.length);
  const right = new Uint32Array(b.buffer, b.byteOffset, b.length);
  return left.length === right.length && left.every((bits, index) => bits === right[index]);
}
