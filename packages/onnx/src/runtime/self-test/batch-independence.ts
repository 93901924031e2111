import { GraphBuilder, type OutputName, type Value } from "../../graph/index.ts";
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

/** A matrix of integers as MatMulNBits reads it. */
export interface IntegerMatrix {
  readonly bits: 4 | 8;
  /** Elements of a row that share a scale. */
  readonly block: number;
  /**
   * What the kernel computes in; 4 is integers.
   *
   * @default 4
   */
  readonly accuracyLevel?: number;
}

/**
 * A row of a product with constant weights has the same bits alone and at the first, a middle and the last place of
 * larger batches.
 *
 * @param weights - float32, or integers of a format
 * @throws OnnxRuntimeError SELF_TEST_FAILED
 */
export async function checkBatchIndependence(
  options: SessionOptions,
  weights: "float32" | IntegerMatrix = "float32",
): Promise<void> {
  using session = await Session.load(productGraph(weights), options);
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
        `ONNX Runtime ${runtimeVersion()}: row ${place} of a batch of ${batch} differs from the same row alone in a ` +
          `product with ${describeWeights(weights)}, so a result would depend on what else is in the batch; ` +
          "weights must be prepacked (session.disable_prepacking), and integers in blocks of 32",
      );
    }
  }
}

function describeWeights(weights: "float32" | IntegerMatrix): string {
  return weights === "float32" ? weights : `integers of ${weights.bits} bits in blocks of ${weights.block}`;
}

/** x float32[batch, INPUTS] → y float32[batch, OUTPUTS] */
function productGraph(weights: "float32" | IntegerMatrix): Uint8Array {
  const graph = new GraphBuilder("batch-independence");
  const x = graph.input("x", "float32", ["batch", INPUTS]);
  const output = [{ global: "y" }];
  for (const y of weights === "float32" ? floatProduct(graph, x, output) : integerProduct(graph, x, weights, output)) {
    graph.expose(y, "float32", ["batch", OUTPUTS]);
  }
  return graph.build();
}

function floatProduct(graph: GraphBuilder, x: Value, output: readonly OutputName[]): Value[] {
  const weight = graph.constant("weight", "float32", [INPUTS, OUTPUTS], pseudoRandom(3, INPUTS * OUTPUTS));
  return graph.ops("MatMul", [x, weight], output);
}

function integerProduct(
  graph: GraphBuilder,
  x: Value,
  { bits, block, accuracyLevel = 4 }: IntegerMatrix,
  output: readonly OutputName[],
): Value[] {
  const blocks = Math.ceil(INPUTS / block);
  const blockBytes = (block * bits) / 8;
  const bytes = Uint8Array.from(pseudoRandom(4, OUTPUTS * blocks * blockBytes), (value) => 128 + 127 * value);
  const weight = graph.constant("weight", "uint8", [OUTPUTS, blocks, blockBytes], bytes);
  const scales = graph.constant("scales", "float32", [OUTPUTS, blocks], pseudoRandom(5, OUTPUTS * blocks));
  return graph.ops("MatMulNBits", [x, weight, scales], output, {
    domain: "com.microsoft",
    attributes: { K: INPUTS, N: OUTPUTS, bits, block_size: block, accuracy_level: accuracyLevel },
  });
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
