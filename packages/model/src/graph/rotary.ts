import type { Value } from "@persona-mesh/onnx";
import type { BodyContext } from "./body-parts.ts";
import { BODY } from "./body-ports.ts";

/** A rotary embedding of the graph: where it is applied, and its tables [positions, rotaryDim / 2] of the activations' type. */
export type Rotary =
  /** By the attention operator: one pass over queries and keys less. */
  | { readonly kind: "inside"; readonly cos: Value; readonly sin: Value }
  /** Before it. `positions`: int64[batch, sequence], where each token stands. */
  | {
      readonly kind: "before";
      readonly cos: Value;
      readonly sin: Value;
      readonly rotaryDim: number;
      readonly positions: Value;
    };

/** The attention operator rotates in vectors of 8 pairs; it refuses other tables when it runs. */
const INSIDE_MULTIPLE = 16;

/**
 * Declare the tables of every rotary embedding of the model.
 *
 * @param tokens - int32[batch, sequence]
 * @param lastPosition - int32[batch]: position of the last of them
 */
export function rotaryInputs(context: BodyContext, tokens: Value, lastPosition: Value): Rotary[] {
  const { graph, spec, weights } = context;
  let positions: Value | undefined;
  return spec.ropes.map(({ rotaryDim }, rope) => {
    const table = (name: string) => {
      const values = graph.input(name, "float32", ["rope_positions", rotaryDim / 2]);
      return weights.activations === "float32" ? values : graph.cast(values, weights.activations);
    };
    const tables = { cos: table(BODY.ropeCos(rope)), sin: table(BODY.ropeSin(rope)) };
    if (rotaryDim % INSIDE_MULTIPLE === 0) return { kind: "inside", ...tables };
    positions ??= tokenPositions(context, tokens, lastPosition);
    return { kind: "before", ...tables, rotaryDim, positions };
  });
}

/**
 * Rotate the leading elements of every head.
 *
 * @param x - [batch, sequence, heads · headDim] of the activations' type; the result too
 */
export function rotate(
  { graph, spec }: BodyContext,
  x: Value,
  heads: number,
  rotary: Extract<Rotary, { kind: "before" }>,
) {
  const { positions, cos, sin, rotaryDim } = rotary;
  return graph.op("RotaryEmbedding", [x, positions, cos, sin], {
    domain: "com.microsoft",
    // The operator wants no extent for a whole head.
    attributes: { num_heads: heads, rotary_embedding_dim: rotaryDim === spec.headDim ? 0 : rotaryDim },
  });
}

function tokenPositions({ graph }: BodyContext, tokens: Value, lastPosition: Value): Value {
  const integer = (name: string, shape: readonly number[], value: bigint) =>
    graph.constant(name, "int64", shape, BigInt64Array.of(value));
  const one = integer("one_token", [], 1n);
  const sequence = graph.op("Gather", [graph.op("Shape", [tokens]), one], { attributes: { axis: 0 } });
  const fromLast = graph.op("Range", [graph.op("Sub", [one, sequence]), one, one]);
  const last = graph.op("Unsqueeze", [graph.cast(lastPosition, "int64"), integer("column", [1], 1n)]);
  return graph.op("Add", [last, fromLast]);
}
