import type { Value } from "@persona-mesh/onnx";
import { type BodyContext, project } from "./body-parts.ts";
import type { DecoderSpec } from "./decoder-spec.ts";
import { WEIGHT } from "./weights-plan.ts";

/**
 * down(activation(gate(x)) · up(x)) of one layer (GLU variants, arXiv:2002.05202).
 *
 * @param x - after its norm, float32[batch, sequence, hidden]
 * @returns float32[batch, sequence, hidden]
 */
export function gatedMlp(context: BodyContext, layer: number, x: Value): Value {
  const { graph, spec } = context;
  const { hidden, intermediate, mlpBias } = spec;
  const both = project(
    context,
    x,
    { weight: WEIGHT.gateUp(layer), bias: mlpBias ? WEIGHT.gateUpBias(layer) : undefined },
    { in: hidden, out: 2 * intermediate },
  );
  const [gate, up] = graph.ops("Split", [both], ["gate", "up"], { attributes: { axis: -1, num_outputs: 2 } });
  const product = graph.op("Mul", [activate(context, gate as Value), up as Value]);
  return project(
    context,
    product,
    { weight: WEIGHT.down(layer), bias: mlpBias ? WEIGHT.downBias(layer) : undefined },
    { in: intermediate, out: hidden },
  );
}

/** Each is one kernel of the runtime, and gives an element the same bits wherever it stands in the tensor. */
const ACTIVATIONS: Readonly<Record<DecoderSpec["activation"], readonly [string, { float: number } | undefined]>> = {
  // QuickGelu with alpha 1 is x · sigmoid(x), SiLU.
  silu: ["QuickGelu", { float: 1 }],
  // ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))), GELU's approximation (arXiv:1606.08415).
  "gelu-tanh": ["FastGelu", undefined],
};

function activate({ graph, spec }: BodyContext, x: Value): Value {
  const [operator, alpha] = ACTIVATIONS[spec.activation];
  return graph.op(operator, [x], { domain: "com.microsoft", attributes: alpha === undefined ? {} : { alpha } });
}
