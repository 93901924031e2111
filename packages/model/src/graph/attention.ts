import { ABSENT, type Value } from "@persona-mesh/onnx";
import { type BodyContext, norm, project } from "./body-parts.ts";
import { BODY } from "./body-ports.ts";
import { WEIGHT } from "./weights-plan.ts";

/** cos and sin of one rotary embedding, [positions, rotaryDim / 2] of the activations' type. */
export interface RopeTables {
  readonly cos: Value;
  readonly sin: Value;
}

/** Inputs of the graph that tell the rows' lengths, and its rotary tables by index. */
export interface Positions {
  readonly lastPosition: Value;
  readonly totalLength: Value;
  readonly ropes: readonly RopeTables[];
}

/**
 * Grouped-query attention of one layer over its cache (arXiv:2305.13245), from the norm before to the output projection.
 *
 * One operator writes the new keys and values into the cache and applies the rotary embedding, the scale, the soft cap and
 * the window. Its cache, inputs and result have the activations' type; everything around it is float32.
 *
 * @param x - after its norm, float32[batch, sequence, hidden]
 * @returns float32[batch, sequence, hidden]
 */
export function attention(context: BodyContext, layer: number, x: Value, positions: Positions): Value {
  const { graph, spec, weights } = context;
  const { heads, kvHeads, headDim } = spec;
  const kind = spec.layerKinds[layer];
  if (kind === undefined) throw new Error(`the spec has no kind for layer ${layer}`);
  const activations = weights.activations;
  const cache = ["batch", kvHeads, "cache_tokens", headDim];
  const rope = kind.rope === null ? undefined : positions.ropes[kind.rope];
  const inputs = queryKeyValue(context, layer, x);
  const pastKey = graph.input(BODY.pastKey(layer), activations, cache);
  const pastValue = graph.input(BODY.pastValue(layer), activations, cache);
  const [attended, presentKey, presentValue] = graph.ops(
    "GroupQueryAttention",
    [
      ...inputs.map((value) => (value === ABSENT ? ABSENT : toActivations(context, value))),
      pastKey,
      pastValue,
      positions.lastPosition,
      positions.totalLength,
      ...(rope === undefined ? [] : [rope.cos, rope.sin]),
    ],
    ["attended", { global: BODY.presentKey(layer) }, { global: BODY.presentValue(layer) }],
    {
      domain: "com.microsoft",
      attributes: {
        num_heads: heads,
        kv_num_heads: kvHeads,
        scale: { float: spec.attention.scale },
        do_rotary: rope === undefined ? 0 : 1,
        ...(spec.attention.softCap === null ? {} : { softcap: { float: spec.attention.softCap } }),
        // Counts as the spec does: the query's own position and those before it.
        ...(kind.window === null ? {} : { local_window_size: kind.window }),
      },
    },
  ) as [Value, Value, Value];
  graph.expose(presentKey, activations, cache);
  graph.expose(presentValue, activations, cache);
  return project(
    context,
    toFloat32(context, attended),
    {
      weight: WEIGHT.attentionOut(layer),
      bias: spec.attention.outBias ? WEIGHT.attentionOutBias(layer) : undefined,
    },
    { in: heads * headDim, out: spec.hidden },
  );
}

/** A float32 value in the type that attention computes in. */
export function toActivations({ graph, weights }: BodyContext, x: Value): Value {
  return weights.activations === "float32" ? x : graph.cast(x, weights.activations);
}

function toFloat32({ graph, weights }: BodyContext, x: Value): Value {
  return weights.activations === "float32" ? x : graph.cast(x, "float32");
}

/** First three inputs of the attention operator: packed in one where nothing comes between projection and attention. */
function queryKeyValue(context: BodyContext, layer: number, x: Value): [Value, Value, Value] {
  const { graph, spec } = context;
  const [queries, keys] = [spec.heads * spec.headDim, spec.kvHeads * spec.headDim];
  const qkv = project(
    context,
    x,
    { weight: WEIGHT.qkv(layer), bias: spec.attention.qkvBias ? WEIGHT.qkvBias(layer) : undefined },
    { in: spec.hidden, out: queries + 2 * keys },
  );
  if (!spec.attention.queryKeyNorm) return [qkv, ABSENT, ABSENT];
  const lengths = graph.constant(
    "qkv_lengths",
    "int64",
    [3],
    BigInt64Array.of(BigInt(queries), BigInt(keys), BigInt(keys)),
  );
  const [query, key, value] = graph.ops("Split", [qkv, lengths], ["query", "key", "value"], {
    attributes: { axis: -1 },
  }) as [Value, Value, Value];
  return [
    headNorm(context, query, WEIGHT.queryNorm(layer), spec.heads),
    headNorm(context, key, WEIGHT.keyNorm(layer), spec.kvHeads),
    value,
  ];
}

/**
 * A norm over each head (query-key normalization, arXiv:2010.04245), float32[batch, sequence, heads · headDim].
 *
 * The attention operator has inputs for it that its CPU kernel refuses, so it is a node of its own.
 */
function headNorm(context: BodyContext, x: Value, gain: string, heads: number): Value {
  const { graph, spec } = context;
  // 0: as in the input.
  const shape = (name: string, ...extents: number[]) =>
    graph.constant(name, "int64", [extents.length], BigInt64Array.from(extents, BigInt));
  const byHead = graph.op("Reshape", [x, shape("by_head", 0, 0, heads, spec.headDim)]);
  return graph.op("Reshape", [norm(context, byHead, gain), shape("joined", 0, 0, heads * spec.headDim)]);
}
