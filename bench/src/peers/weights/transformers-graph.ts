import {
  type DecoderSpec,
  GraphWeights,
  type Precision,
  ropeTables,
  scalesOf,
  WEIGHT,
  type WeightLocation,
} from "@persona-mesh/model/graph";
import { ABSENT, GraphBuilder, type Value } from "@persona-mesh/onnx";

/**
 * A decoder in the form that transformers.js reads: token ids, an attention mask and the past in; logits and the present out.
 *
 * As good as the exports of the Hub are: grouped-query attention with the rotary embedding inside, one product for query, key and
 * value, logits of no more positions than asked for. What it cannot have is the cache in place: the form gives every step's
 * present as new tensors. Rows are all of one length here; padding on the left is not provided for.
 *
 * @param weightsFile - where the weights lie, beside the graph
 */
export function buildTransformersGraph(
  spec: DecoderSpec,
  weights: readonly WeightLocation[],
  weightsFile: string,
  precision: Precision,
): Uint8Array {
  requirePlain(spec);
  const graph = new GraphBuilder("decoder");
  const table = new GraphWeights([...weights, ...headOf(weights, precision)], weightsFile, precision);
  const norm = (x: Value, gain: string) =>
    graph.op("SimplifiedLayerNormalization", [x, table.vector(graph, gain)], {
      attributes: { axis: -1, epsilon: { float: spec.normEps } },
    });
  const tokens = graph.input("input_ids", "int64", ["batch_size", "sequence_length"]);
  const mask = graph.input("attention_mask", "int64", ["batch_size", "total_sequence_length"]);
  const keep = graph.input("num_logits_to_keep", "int64", []);
  const positions = { ...lengths(graph, mask), ...ropeConstants(graph, spec) };

  let x = table.embed(graph, tokens, spec);
  for (let layer = 0; layer < spec.layers; layer++) {
    x = graph.within(`layers.${layer}`, () => {
      const attended = attention(graph, table, spec, layer, norm(x, WEIGHT.attentionNorm(layer)), positions);
      const middle = graph.op("Add", [x, attended]);
      return graph.op("Add", [middle, mlp(graph, table, spec, layer, norm(middle, WEIGHT.mlpNorm(layer)))]);
    });
  }
  const last = lastPositions(graph, x, keep);
  const isInteger = precision.head.kind === "nbits";
  exposeLogits(graph, table, isInteger ? { ...spec, tiedEmbeddings: false } : spec, norm(last, WEIGHT.finalNorm));
  return graph.build();
}

interface Positions {
  /** int32[batch]: positions of a row, minus one. */
  readonly lastPosition: Value;
  /** int32 scalar */
  readonly totalLength: Value;
  /** float32[context, rotaryDim / 2] */
  readonly cos: Value;
  readonly sin: Value;
}

function attention(
  graph: GraphBuilder,
  table: GraphWeights,
  spec: DecoderSpec,
  layer: number,
  x: Value,
  { lastPosition, totalLength, cos, sin }: Positions,
): Value {
  const { heads, kvHeads, headDim, hidden } = spec;
  const qkv = table.product(graph, x, WEIGHT.qkv(layer), { in: hidden, out: (heads + 2 * kvHeads) * headDim });
  const past = ["batch_size", kvHeads, "past_sequence_length", headDim];
  const present = ["batch_size", kvHeads, "total_sequence_length", headDim];
  const [attended, key, value] = graph.ops(
    "GroupQueryAttention",
    [
      qkv,
      ABSENT,
      ABSENT,
      graph.input(`past_key_values.${layer}.key`, "float32", past),
      graph.input(`past_key_values.${layer}.value`, "float32", past),
      lastPosition,
      totalLength,
      cos,
      sin,
    ],
    ["attended", { global: `present.${layer}.key` }, { global: `present.${layer}.value` }],
    {
      domain: "com.microsoft",
      attributes: {
        num_heads: heads,
        kv_num_heads: kvHeads,
        scale: { float: spec.attention.scale },
        do_rotary: 1,
      },
    },
  ) as [Value, Value, Value];
  graph.expose(key, "float32", present);
  graph.expose(value, "float32", present);
  return table.product(graph, attended, WEIGHT.attentionOut(layer), { in: heads * headDim, out: hidden });
}

function mlp(graph: GraphBuilder, table: GraphWeights, spec: DecoderSpec, layer: number, x: Value): Value {
  const { hidden, intermediate } = spec;
  const both = table.product(graph, x, WEIGHT.gateUp(layer), { in: hidden, out: 2 * intermediate });
  const [gate, up] = graph.ops("Split", [both], ["gate", "up"], { attributes: { axis: -1, num_outputs: 2 } });
  const activated = graph.op("QuickGelu", [gate as Value], {
    domain: "com.microsoft",
    attributes: { alpha: { float: 1 } },
  });
  const product = graph.op("Mul", [activated, up as Value]);
  return table.product(graph, product, WEIGHT.down(layer), { in: intermediate, out: hidden });
}

function lengths(graph: GraphBuilder, mask: Value): Pick<Positions, "lastPosition" | "totalLength"> {
  const one = (name: string, value: bigint, shape: number[]) =>
    graph.constant(name, "int64", shape, BigInt64Array.of(value));
  const counted = graph.op("ReduceSum", [mask, one("token_axis", 1n, [1])], { attributes: { keepdims: 0 } });
  const total = graph.op("Gather", [graph.op("Shape", [mask]), one("tokens", 1n, [])]);
  return {
    lastPosition: graph.cast(graph.op("Sub", [counted, one("one", 1n, [])]), "int32"),
    totalLength: graph.cast(total, "int32"),
  };
}

function ropeConstants(graph: GraphBuilder, spec: DecoderSpec): Pick<Positions, "cos" | "sin"> {
  const [rope] = spec.ropes;
  if (rope === undefined) throw new Error("the model has no rotary embedding");
  const { cos, sin } = ropeTables(rope, spec.contextTokens);
  const shape = [spec.contextTokens, rope.rotaryDim / 2];
  return { cos: graph.constant("cos", "float32", shape, cos), sin: graph.constant("sin", "float32", shape, sin) };
}

/** The last `keep` positions of each row; all of them where it is 0. */
function lastPositions(graph: GraphBuilder, x: Value, keep: Value): Value {
  const one = (name: string, value: bigint) => graph.constant(name, "int64", [1], BigInt64Array.of(value));
  const start = graph.op("Reshape", [graph.op("Neg", [keep]), one("extent", 1n)]);
  return graph.op("Slice", [x, start, one("end", 2n ** 62n), one("axis", 1n)]);
}

/** Logits as float32[batch, kept, vocabulary]; the head takes and gives rows. */
function exposeLogits(graph: GraphBuilder, table: GraphWeights, spec: DecoderSpec, x: Value): void {
  const shape = (name: string, ...extents: bigint[]) =>
    graph.constant(name, "int64", [extents.length], BigInt64Array.from(extents));
  const rows = graph.op("Reshape", [x, shape("rows", -1n, BigInt(spec.hidden))]);
  const leading = graph.op("Slice", [graph.op("Shape", [x]), shape("from", 0n), shape("to", 2n)]);
  const extents = graph.op("Concat", [leading, shape("vocabulary", BigInt(spec.vocabulary))], {
    attributes: { axis: 0 },
  });
  const [logits] = graph.ops("Reshape", [table.head(graph, rows, spec), extents], [{ global: "logits" }]) as [Value];
  graph.expose(logits, "float32", ["batch_size", "kept", spec.vocabulary]);
}

/**
 * A tied head of integers under a name of its own: gathering and multiplying read the same bytes in different shapes, and
 * here both are in one graph.
 */
function headOf(weights: readonly WeightLocation[], { head }: Precision): WeightLocation[] {
  if (head.kind !== "nbits") return [];
  const names = new Map<string, string>([
    [WEIGHT.embedding, WEIGHT.head],
    [scalesOf(WEIGHT.embedding), scalesOf(WEIGHT.head)],
  ]);
  return weights.flatMap((weight) => {
    const name = names.get(weight.name);
    return name === undefined ? [] : [{ ...weight, name }];
  });
}

/** What this graph leaves out must not be there. */
export function requirePlain(spec: DecoderSpec): void {
  const { attention } = spec;
  const isPlain =
    spec.architecture === "llama" &&
    spec.tiedEmbeddings &&
    spec.activation === "silu" &&
    spec.embeddingScale === 1 &&
    spec.logitSoftCap === null &&
    !(spec.normPlusOne || spec.sandwichNorms || spec.mlpBias) &&
    !(attention.qkvBias || attention.outBias || attention.queryKeyNorm) &&
    attention.softCap === null &&
    spec.ropes.length === 1 &&
    spec.ropes[0]?.scaling.kind === "none" &&
    spec.ropes[0].rotaryDim === spec.headDim &&
    spec.layerKinds.every(({ window, rope }) => window === null && rope === 0);
  if (!isPlain) throw new Error("peers are given a plain Llama with tied embeddings only");
}
