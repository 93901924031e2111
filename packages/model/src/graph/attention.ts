import { ABSENT, type Value } from "@persona-mesh/onnx";
import { type BodyContext, norm, project } from "./body-parts.ts";
import { BODY } from "./body-ports.ts";
import type { DecoderSpec } from "./decoder-spec.ts";
import { type Rotary, rotate } from "./rotary.ts";
import { WEIGHT } from "./weights-plan.ts";

/** Inputs of the graph that tell where its tokens stand. */
export interface Positions {
  /** int32[batch] */
  readonly lastPosition: Value;
  /** int32[1] */
  readonly totalLength: Value;
  /** By the index that layers refer to. */
  readonly rotaries: readonly Rotary[];
}

/**
 * Grouped-query attention of one layer over its cache (arXiv:2305.13245), up to and with the output projection.
 *
 * One operator writes the new keys and values into the cache and applies the rotary embedding, the scale, the soft cap and
 * the window. It reads and writes the activations' type; everything around it is float32.
 *
 * @param x - after its norm, float32[batch, sequence, hidden]
 * @returns float32[batch, sequence, hidden]
 */
export function attention(context: BodyContext, layer: number, x: Value, positions: Positions): Value {
  const { graph, spec, weights } = context;
  const { heads, kvHeads, headDim } = spec;
  const { scale, softCap, outBias } = spec.attention;
  const { window, rotary } = placeInContext(spec, layer, positions);
  const inside = rotary?.kind === "inside";
  const type = weights.activations;
  const cache = ["batch", kvHeads, "cache_tokens", headDim];
  const queryKeyValue = attentionInputs(context, layer, x, rotary);
  const pastKey = graph.input(BODY.pastKey(layer), type, cache);
  const pastValue = graph.input(BODY.pastValue(layer), type, cache);
  const [attended, presentKey, presentValue] = graph.ops(
    "GroupQueryAttention",
    [
      ...queryKeyValue,
      pastKey,
      pastValue,
      positions.lastPosition,
      positions.totalLength,
      ...(inside ? [rotary.cos, rotary.sin] : []),
    ],
    ["attended", { global: BODY.presentKey(layer) }, { global: BODY.presentValue(layer) }],
    {
      domain: "com.microsoft",
      attributes: {
        num_heads: heads,
        kv_num_heads: kvHeads,
        scale: { float: scale },
        do_rotary: inside ? 1 : 0,
        ...(softCap === null ? {} : { softcap: { float: softCap } }),
        // Counts as the spec does: the query's own position and those before it.
        ...(window === null ? {} : { local_window_size: window }),
      },
    },
  ) as [Value, Value, Value];
  graph.expose(presentKey, type, cache);
  graph.expose(presentValue, type, cache);
  return project(
    context,
    type === "float32" ? attended : graph.cast(attended, "float32"),
    { weight: WEIGHT.attentionOut(layer), bias: outBias ? WEIGHT.attentionOutBias(layer) : undefined },
    { in: heads * headDim, out: spec.hidden },
  );
}

/** What a layer sees of the context. */
function placeInContext(spec: DecoderSpec, layer: number, { rotaries }: Positions) {
  const kind = spec.layerKinds[layer];
  if (kind === undefined) throw new RangeError(`no kind of layer for layer ${layer} of ${spec.layers}`);
  if (kind.rope === null) return { window: kind.window, rotary: undefined };
  const rotary = rotaries[kind.rope];
  // Without this a wrong index would silently make a layer without positions.
  if (rotary === undefined) throw new RangeError(`layer ${layer}: no rotary embedding ${kind.rope}`);
  return { window: kind.window, rotary };
}

/** Query, key and value as the operator takes them: in one where nothing comes between projection and attention. */
function attentionInputs(context: BodyContext, layer: number, x: Value, rotary: Rotary | undefined): readonly Value[] {
  const { graph, spec, weights } = context;
  const { qkvBias, queryKeyNorm } = spec.attention;
  const [queries, keys] = [spec.heads * spec.headDim, spec.kvHeads * spec.headDim];
  const qkv = project(
    context,
    x,
    { weight: WEIGHT.qkv(layer), bias: qkvBias ? WEIGHT.qkvBias(layer) : undefined },
    { in: spec.hidden, out: queries + 2 * keys },
  );
  const typed = (value: Value) => (weights.activations === "float32" ? value : graph.cast(value, weights.activations));
  if (!queryKeyNorm && rotary?.kind !== "before") return [typed(qkv), ABSENT, ABSENT];

  const extents = graph.constant("qkv", "int64", [3], BigInt64Array.from([queries, keys, keys], BigInt));
  const [query, key, value] = graph.ops("Split", [qkv, extents], ["query", "key", "value"], {
    attributes: { axis: -1 },
  }) as [Value, Value, Value];
  const placed = (part: Value, gain: string, heads: number) => {
    const normed = typed(queryKeyNorm ? headNorm(context, part, gain, heads) : part);
    return rotary?.kind === "before" ? rotate(context, normed, heads, rotary) : normed;
  };
  return [
    placed(query, WEIGHT.queryNorm(layer), spec.heads),
    placed(key, WEIGHT.keyNorm(layer), spec.kvHeads),
    typed(value),
  ];
}

/**
 * A norm over each head (query-key normalization, arXiv:2010.04245), float32[batch, sequence, heads · headDim].
 *
 * The attention operator has inputs for it that its CPU kernel refuses, so it is a node of its own.
 */
function headNorm(context: BodyContext, x: Value, gain: string, heads: number): Value {
  const { graph, spec } = context;
  // An extent of 0 is the input's.
  const shape = (name: string, ...extents: readonly number[]) =>
    graph.constant(name, "int64", [extents.length], BigInt64Array.from(extents, BigInt));
  const byHead = graph.op("Reshape", [x, shape("by_head", 0, 0, heads, spec.headDim)]);
  return graph.op("Reshape", [norm(context, byHead, gain), shape("joined", 0, 0, heads * spec.headDim)]);
}
