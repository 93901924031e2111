import { GraphBuilder, type Value } from "../../graph/index.ts";

/** Weights of {@link affineGraph}, float32[4, 3]. */
const AFFINE_WEIGHT = Float32Array.from([1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 5, 7]);

/** x float32[batch, 4] → y float32[batch, 3] = x · the weights, and z = y + y. */
export function affineGraph(): Uint8Array {
  const graph = new GraphBuilder("affine");
  const x = graph.input("x", "float32", ["batch", 4]);
  const y = one(graph.ops("MatMul", [x, graph.constant("w", "float32", [4, 3], AFFINE_WEIGHT)], [{ global: "y" }]));
  const z = one(graph.ops("Add", [y, y], [{ global: "z" }]));
  graph.expose(y, "float32", ["batch", 3]);
  graph.expose(z, "float32", ["batch", 3]);
  return graph.build();
}

/** What {@link affineGraph} computes for one row. */
export function affine(row: readonly number[]): number[] {
  return [0, 1, 2].map((column) => row.reduce((sum, x, i) => sum + x * (AFFINE_WEIGHT[i * 3 + column] ?? 0), 0));
}

const SLOW_WIDTH = 256;

/**
 * x float32[64, 256] → y of the same shape: the mean of each row, `steps` times over. About 0.2 ms a step; load it with
 * `optimization: "none"`.
 */
export function slowGraph(steps: number): Uint8Array {
  const graph = new GraphBuilder("slow");
  const shape = [64, SLOW_WIDTH];
  const weight = new Float32Array(SLOW_WIDTH * SLOW_WIDTH).fill(1 / SLOW_WIDTH);
  const mean = graph.constant("mean", "float32", [SLOW_WIDTH, SLOW_WIDTH], weight);
  let h = graph.input("x", "float32", shape);
  for (let step = 1; step < steps; step++) h = graph.op("MatMul", [h, mean]);
  graph.expose(one(graph.ops("MatMul", [h, mean], [{ global: "y" }])), "float32", shape);
  return graph.build();
}

/** x of a type and shape → y, the same. */
export function identityGraph(
  type: Parameters<GraphBuilder["input"]>[1],
  shape: readonly (number | string)[],
): Uint8Array {
  const graph = new GraphBuilder("identity");
  const x = graph.input("x", type, shape);
  graph.expose(one(graph.ops("Identity", [x], [{ global: "y" }])), type, shape);
  return graph.build();
}

export function one(values: readonly Value[]): Value {
  const [value] = values;
  if (value === undefined) throw new Error("the node has no output");
  return value;
}
