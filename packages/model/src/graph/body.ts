import { GraphBuilder, type Value } from "@persona-mesh/onnx";
import { attention } from "./attention.ts";
import { type BodyContext, norm } from "./body-parts.ts";
import { BODY } from "./body-ports.ts";
import type { DecoderSpec } from "./decoder-spec.ts";
import type { GraphWeights } from "./graph-weights.ts";
import { gatedMlp } from "./mlp.ts";
import { rotaryInputs } from "./rotary.ts";
import { type SteeringParts, steeringSite } from "./steering.ts";
import { WEIGHT } from "./weights-plan.ts";

export interface BodyOptions {
  readonly steering: SteeringParts;
  /** Give out the residuals of all layers: for extraction, not for serving. */
  readonly residuals: boolean;
}

/**
 * The decoder from token ids to the final norm, with the KV cache in place and steering after every block.
 *
 * A block is attention and a gated MLP, each on a norm of the residual stream and added to it (Llama, arXiv:2302.13971).
 * With sandwich norms what is added is normed too (Gemma 2, arXiv:2408.00118).
 */
export function buildBody(spec: DecoderSpec, weights: GraphWeights, options: BodyOptions): Uint8Array {
  const graph = new GraphBuilder(options.residuals ? "body-capture" : "body");
  const context: BodyContext = { graph, spec, weights };
  const tokens = graph.input(BODY.tokens, "int32", ["batch", "sequence"]);
  const lastPosition = graph.input(BODY.lastPosition, "int32", ["batch"]);
  const totalLength = graph.input(BODY.totalLength, "int32", [1]);
  const select = graph.input(BODY.select, "int32", ["selected"]);
  const steering = options.steering === "off" ? undefined : steeringSite(graph, spec, options.steering);
  const positions = { lastPosition, totalLength, rotaries: rotaryInputs(context, tokens, lastPosition) };
  /** One half of a block: what it adds to the residual stream. */
  const add = (x: Value, part: Value, postNorm: string) =>
    graph.op("Add", [x, spec.sandwichNorms ? norm(context, part, postNorm) : part]);
  const residuals: Value[] = [];

  let x = embed(context, tokens);
  for (let layer = 0; layer < spec.layers; layer++) {
    x = graph.within(`layers.${layer}`, () => {
      const attended = attention(context, layer, norm(context, x, WEIGHT.attentionNorm(layer)), positions);
      const middle = add(x, attended, WEIGHT.postAttentionNorm(layer));
      const transformed = gatedMlp(context, layer, norm(context, middle, WEIGHT.mlpNorm(layer)));
      const h = add(middle, transformed, WEIGHT.postMlpNorm(layer));
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
  graph.expose(norm(context, selected, WEIGHT.finalNorm, BODY.hidden), "float32", ["selected", spec.hidden]);
  if (options.residuals) {
    const [all] = graph.ops("Concat", residuals, [{ global: BODY.residuals }], { attributes: { axis: 2 } });
    graph.expose(all as Value, "float32", ["batch", "sequence", spec.layers, spec.hidden]);
  }
  return graph.build();
}

function embed({ graph, spec, weights }: BodyContext, tokens: Value): Value {
  const embedded = weights.embed(graph, tokens, spec);
  if (spec.embeddingScale === 1) return embedded;
  const scale = graph.constant("embedding_scale", "float32", [], Float32Array.of(spec.embeddingScale));
  return graph.op("Mul", [embedded, scale]);
}
