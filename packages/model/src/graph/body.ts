import { ABSENT, GraphBuilder, type Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";
import type { GraphWeights } from "./graph-weights.ts";
import { type SteeringParts, steeringSite } from "./steering.ts";
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
  /** float32[rope_positions, rotaryDim / 2] of one rotary table. */
  ropeCos: (rope: number) => `rope_cos.${rope}`,
  ropeSin: (rope: number) => `rope_sin.${rope}`,
  /** float32[batch, kvHeads, cacheTokens, headDim]; the present output must be the same buffer. */
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
export function buildBody(spec: DecoderSpec, weights: GraphWeights, options: BodyOptions): Uint8Array {
  const graph = new GraphBuilder(options.residuals ? "body-capture" : "body");
  const tokens = graph.input(BODY.tokens, "int32", ["batch", "sequence"]);
  const lastPosition = graph.input(BODY.lastPosition, "int32", ["batch"]);
  const totalLength = graph.input(BODY.totalLength, "int32", [1]);
  const select = graph.input(BODY.select, "int32", ["selected"]);
  const steering = options.steering === "off" ? undefined : steeringSite(graph, spec, options.steering);
  const norm = (x: Value, gamma: string) =>
    graph.op("SimplifiedLayerNormalization", [x, weights.vector(graph, gamma)], {
      attributes: { axis: -1, epsilon: { float: spec.normEps } },
    });
  const residuals: Value[] = [];

  const ropes = spec.ropes.map(({ rotaryDim }, rope) => ({
    cos: graph.input(BODY.ropeCos(rope), "float32", ["rope_positions", rotaryDim / 2]),
    sin: graph.input(BODY.ropeSin(rope), "float32", ["rope_positions", rotaryDim / 2]),
  }));
  let x = weights.embed(graph, tokens, spec);
  for (let layer = 0; layer < spec.layers; layer++) {
    x = graph.within(`layers.${layer}`, () => {
      const attended = attention(graph, spec, weights, layer, norm(x, WEIGHT.attentionNorm(layer)), {
        lastPosition,
        totalLength,
        rope: ropes[spec.layerKinds[layer]?.rope ?? 0] as { cos: Value; sin: Value },
      });
      const middle = graph.op("Add", [x, attended]);
      const h = graph.op("Add", [middle, gatedMlp(graph, spec, weights, layer, norm(middle, WEIGHT.mlpNorm(layer)))]);
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
    [selected, weights.vector(graph, WEIGHT.finalNorm)],
    [{ global: BODY.hidden }],
    { attributes: { axis: -1, epsilon: { float: spec.normEps } } },
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
  weights: GraphWeights,
  layer: number,
  x: Value,
  position: { lastPosition: Value; totalLength: Value; rope: { cos: Value; sin: Value } },
): Value {
  const cache = ["batch", spec.kvHeads, "cache_tokens", spec.headDim];
  const queries = spec.heads * spec.headDim;
  const qkv = weights.product(graph, x, WEIGHT.qkv(layer), {
    in: spec.hidden,
    out: queries + 2 * spec.kvHeads * spec.headDim,
  });
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
      position.lastPosition,
      position.totalLength,
      position.rope.cos,
      position.rope.sin,
    ],
    ["attended", { global: BODY.presentKey(layer) }, { global: BODY.presentValue(layer) }],
    { domain: "com.microsoft", attributes: { num_heads: spec.heads, kv_num_heads: spec.kvHeads, do_rotary: 1 } },
  ) as [Value, Value, Value];
  graph.expose(presentKey, "float32", cache);
  graph.expose(presentValue, "float32", cache);
  return weights.product(graph, attended, WEIGHT.attentionOut(layer), { in: queries, out: spec.hidden });
}

function gatedMlp(graph: GraphBuilder, spec: DecoderSpec, weights: GraphWeights, layer: number, x: Value): Value {
  const { hidden, intermediate } = spec;
  const both = weights.product(graph, x, WEIGHT.gateUp(layer), { in: hidden, out: 2 * intermediate });
  const [gate, up] = graph.ops("Split", [both], ["gate", "up"], { attributes: { axis: -1, num_outputs: 2 } });
  // QuickGelu with alpha 1 is x · sigmoid(x), SiLU, in one kernel.
  const silu = graph.op("QuickGelu", [gate as Value], { domain: "com.microsoft", attributes: { alpha: { float: 1 } } });
  const product = graph.op("Mul", [silu, up as Value]);
  return weights.product(graph, product, WEIGHT.down(layer), { in: intermediate, out: hidden });
}
