import { ABSENT, GraphBuilder, type Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";
import { type SteeringParts, steeringSite } from "./steering.ts";
import type { WeightLookup } from "./weight-location.ts";
import { WEIGHT } from "./weights-plan.ts";

/** Names of the inputs and outputs of a body graph. */
export const BODY = {
  /** int32[batch, sequence] */
  tokens: "tokens",
  /** int32[batch]: positions a row has after this run, minus one. */
  lastPosition: "last_position",
  /** int32[1]: the largest row length after this run. */
  totalLength: "total_length",
  /** int32[selected]: which of the batch × sequence positions, flattened, the heads are to read. */
  select: "select",
  /** float32[selected, hidden]: after the final norm. */
  hidden: "hidden",
  /** float32[batch, sequence, layers, hidden]: after each block and its steering, before the final norm. */
  residuals: "residuals",
  /** float32[batch, kvHeads, contextTokens, headDim]; the present output must be the same buffer. */
  pastKey: (layer: number) => `past_key.${layer}`,
  pastValue: (layer: number) => `past_value.${layer}`,
  presentKey: (layer: number) => `present_key.${layer}`,
  presentValue: (layer: number) => `present_value.${layer}`,
} as const;

export interface BodyOptions {
  readonly steering: SteeringParts;
  /** Give out the residuals of all layers: for extraction, not for serving. */
  readonly residuals: boolean;
}

/**
 * The decoder from token ids to the final norm, with the KV cache in place and steering after every block.
 *
 * Llama: pre-norm blocks of grouped-query attention with rotary positions and a SiLU-gated MLP, no biases
 * (Touvron et al., arXiv:2302.13971; Ainslie et al., arXiv:2305.13245).
 */
export function buildBody(spec: DecoderSpec, weight: WeightLookup, options: BodyOptions): Uint8Array {
  const graph = new GraphBuilder(options.residuals ? "body-capture" : "body");
  const tokens = graph.input(BODY.tokens, "int32", ["batch", "sequence"]);
  const lastPosition = graph.input(BODY.lastPosition, "int32", ["batch"]);
  const totalLength = graph.input(BODY.totalLength, "int32", [1]);
  const select = graph.input(BODY.select, "int32", ["selected"]);
  const steering = options.steering === "off" ? undefined : steeringSite(graph, spec, options.steering);
  const norm = (x: Value, gamma: string) =>
    graph.op("SimplifiedLayerNormalization", [x, weight(graph, gamma)], {
      attributes: { axis: -1, epsilon: { float: spec.rmsNormEps } },
    });
  const residuals: Value[] = [];

  let x = graph.op("Gather", [weight(graph, WEIGHT.embedding), tokens], { attributes: { axis: 0 } });
  for (let layer = 0; layer < spec.layers; layer++) {
    x = graph.within(`layers.${layer}`, () => {
      const attended = attention(graph, spec, weight, layer, norm(x, WEIGHT.attentionNorm(layer)), {
        lastPosition,
        totalLength,
      });
      const middle = graph.op("Add", [x, attended]);
      const h = graph.op("Add", [middle, gatedMlp(graph, weight, layer, norm(middle, WEIGHT.mlpNorm(layer)))]);
      return steering === undefined ? h : steering.inject(layer, h);
    });
    if (options.residuals) {
      residuals.push(graph.op("Unsqueeze", [x, graph.constant("layer_axis", "int64", [1], BigInt64Array.of(2n))]));
    }
  }
  steering?.finish();

  // Only the selected positions go through the final norm and out: a prefill chunk needs one of its rows, or none.
  const flat = graph.op("Reshape", [
    x,
    graph.constant("flat", "int64", [2], BigInt64Array.of(-1n, BigInt(spec.hidden))),
  ]);
  const selected = graph.op("Gather", [flat, select], { attributes: { axis: 0 } });
  const [hidden] = graph.ops(
    "SimplifiedLayerNormalization",
    [selected, weight(graph, WEIGHT.finalNorm)],
    [{ global: BODY.hidden }],
    { attributes: { axis: -1, epsilon: { float: spec.rmsNormEps } } },
  );
  graph.expose(hidden as Value, "float32", ["selected", spec.hidden]);
  if (options.residuals) {
    const [all] = graph.ops("Concat", residuals, [{ global: BODY.residuals }], { attributes: { axis: 2 } });
    graph.expose(all as Value, "float32", ["batch", "sequence", spec.layers, spec.hidden]);
  }
  return graph.build();
}

function attention(
  graph: GraphBuilder,
  spec: DecoderSpec,
  weight: WeightLookup,
  layer: number,
  x: Value,
  lengths: { lastPosition: Value; totalLength: Value },
): Value {
  const cache = ["batch", spec.kvHeads, spec.contextTokens, spec.headDim];
  const qkv = graph.op("MatMul", [x, weight(graph, WEIGHT.qkv(layer))]);
  const pastKey = graph.input(BODY.pastKey(layer), "float32", cache);
  const pastValue = graph.input(BODY.pastValue(layer), "float32", cache);
  // Query, key and value come packed; the rotary embedding is applied inside the operator.
  const [attended, presentKey, presentValue] = graph.ops(
    "GroupQueryAttention",
    [
      qkv,
      ABSENT,
      ABSENT,
      pastKey,
      pastValue,
      lengths.lastPosition,
      lengths.totalLength,
      weight(graph, WEIGHT.ropeCos),
      weight(graph, WEIGHT.ropeSin),
    ],
    ["attended", { global: BODY.presentKey(layer) }, { global: BODY.presentValue(layer) }],
    { domain: "com.microsoft", attributes: { num_heads: spec.heads, kv_num_heads: spec.kvHeads, do_rotary: 1 } },
  ) as [Value, Value, Value];
  graph.expose(presentKey, "float32", cache);
  graph.expose(presentValue, "float32", cache);
  return graph.op("MatMul", [attended, weight(graph, WEIGHT.attentionOut(layer))]);
}

function gatedMlp(graph: GraphBuilder, weight: WeightLookup, layer: number, x: Value): Value {
  const both = graph.op("MatMul", [x, weight(graph, WEIGHT.gateUp(layer))]);
  const [gate, up] = graph.ops("Split", [both], ["gate", "up"], { attributes: { axis: -1, num_outputs: 2 } });
  // QuickGelu with alpha 1 is x · sigmoid(x), SiLU, in one kernel.
  const silu = graph.op("QuickGelu", [gate as Value], { domain: "com.microsoft", attributes: { alpha: { float: 1 } } });
  return graph.op("MatMul", [graph.op("Mul", [silu, up as Value]), weight(graph, WEIGHT.down(layer))]);
}
