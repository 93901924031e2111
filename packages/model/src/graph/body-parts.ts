import type { GraphBuilder, Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";
import type { GraphWeights, ProductShape } from "./graph-weights.ts";

/** What every part of a body graph is built from. */
export interface BodyContext {
  readonly graph: GraphBuilder;
  readonly spec: DecoderSpec;
  readonly weights: GraphWeights;
}

/**
 * x / √(mean(x²) + ε) · gain over the last axis (RMSNorm, arXiv:1910.07467).
 *
 * @param output - name of the result, for one that callers of the graph read
 */
export function norm({ graph, spec, weights }: BodyContext, x: Value, gain: string, output?: string): Value {
  const [normed] = graph.ops(
    "SimplifiedLayerNormalization",
    [x, weights.vector(graph, gain)],
    [output === undefined ? "normed" : { global: output }],
    { attributes: { axis: -1, epsilon: { float: spec.normEps } } },
  );
  return normed as Value;
}

/** x · Wᵀ, plus the bias if it has one; float32[…, in] → float32[…, out]. */
export function project(
  { graph, weights }: BodyContext,
  x: Value,
  names: { readonly weight: string; readonly bias: string | undefined },
  shape: ProductShape,
): Value {
  const product = weights.product(graph, x, names.weight, shape);
  return names.bias === undefined ? product : graph.op("Add", [product, weights.vector(graph, names.bias)]);
}
