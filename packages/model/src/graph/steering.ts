import type { GraphBuilder, Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";

/**
 * Which parts of the steering contract a body graph has.
 *
 * - `off`: none; what steering is measured against
 * - `add`: `h' = h + gain * row`
 * - `projected`: also the projections; what a worker serves
 * - `full`: also the rescaling of `ADD_RENORM` by row; what it serves while a row asks for that
 *
 * What they have in common they compute alike: a row that is not rescaled has the same bits in the last two, and one that
 * is not steered in all.
 */
export type SteeringParts = "off" | "add" | "projected" | "full";

/** Names of the steering inputs and outputs of a body graph. */
export const STEERING = {
  /** float32[tableRows, hidden]: pre-composed deltas; row 0 is all zeros. */
  table: "steering_table",
  /** int32[batch, layers]: the table row of each batch row at each layer. */
  rows: "steering_rows",
  /** float32[batch, 1, 1]: scales a row's deltas in this step. */
  gain: "steering_gain",
  /** bool[batch, 1, 1]: the row is rescaled to the norm it had. Of the full graph only. */
  renorm: "steering_renorm",
  /** float32[batch, sequence, layers]: ⟨h, row⟩ before the injection. */
  projections: "projections",
} as const;

/** Added to mean squares before they are divided by: a zero residual stays zero instead of turning into NaN. */
const MIN_MEAN_SQUARE = 1e-30;

/** Injects the rows of the steering table into the residual stream of one graph. */
export interface SteeringSite {
  /** @param h - residual after block `layer`, float32[batch, sequence, hidden] */
  inject(layer: number, h: Value): Value;
  /** Declares the outputs, after the last layer. */
  finish(): void;
}

/**
 * Declare the steering inputs and fetch the rows of all layers at once.
 *
 * One Gather, one Mul and one Split serve every layer, so that a layer pays for its additions only. Layers come first in
 * what is split, so that each is one piece of memory.
 */
export function steeringSite(
  graph: GraphBuilder,
  spec: DecoderSpec,
  parts: Exclude<SteeringParts, "off">,
): SteeringSite {
  const layers = spec.layers;
  const table = graph.input(STEERING.table, "float32", ["table_rows", spec.hidden]);
  const rowIndex = graph.input(STEERING.rows, "int32", ["batch", layers]);
  const gain = graph.input(STEERING.gain, "float32", ["batch", 1, 1]);
  const integers = (name: string, ...values: readonly number[]) =>
    graph.constant(name, "int64", [values.length], BigInt64Array.from(values, BigInt));
  const gathered = graph.op("Gather", [table, graph.op("Transpose", [rowIndex])], { attributes: { axis: 0 } });
  const rows = graph.op("Reshape", [gathered, integers("by_layer_and_row", layers, -1, 1, spec.hidden)]);
  const rowShape = integers("by_row", -1, 1, spec.hidden);
  /** `[layers, batch, 1, hidden]` into one `[batch, 1, hidden]` per layer. */
  const split = (x: Value, name: string) => {
    const byRow = graph.op("Reshape", [x, rowShape]);
    const names = Array.from({ length: layers }, (_, layer) => `${name}.${layer}`);
    return layers === 1
      ? [byRow]
      : graph.ops("Split", [byRow], names, { attributes: { axis: 0, num_outputs: layers } });
  };
  const deltas = split(graph.op("Mul", [rows, gain]), "delta");
  if (parts === "add") {
    return { inject: (layer, h) => graph.op("Add", [h, at(deltas, layer)]), finish: () => {} };
  }

  const directions = split(rows, "row");
  const projections: Value[] = [];
  const rescale = parts === "full" ? rescaling(graph, spec) : (moved: Value) => moved;

  return {
    inject(layer, h) {
      projections.push(
        graph.op("FusedMatMul", [h, at(directions, layer)], { domain: "com.microsoft", attributes: { transB: 1 } }),
      );
      return rescale(graph.op("Add", [h, at(deltas, layer)]), h);
    },
    finish() {
      const [all] = graph.ops("Concat", projections, [{ global: STEERING.projections }], { attributes: { axis: 2 } });
      graph.expose(all as Value, "float32", ["batch", "sequence", layers]);
    },
  };
}

/** What gives a moved residual the norm of `h`, in the rows that ask for it. */
function rescaling(graph: GraphBuilder, spec: DecoderSpec): (moved: Value, h: Value) => Value {
  const renorm = graph.input(STEERING.renorm, "bool", ["batch", 1, 1]);
  const one = graph.constant("one", "float32", [], Float32Array.of(1));
  const ones = graph.constant("ones", "float32", [spec.hidden], new Float32Array(spec.hidden).fill(1));
  /** √hidden / ‖x‖: what a norm multiplies by, which its kernel finds faster than the reductions do. */
  const inverseNorm = (x: Value) => {
    const [, inverse] = graph.ops("SimplifiedLayerNormalization", [x, ones], ["unit", "inverse_norm"], {
      attributes: { axis: -1, epsilon: { float: MIN_MEAN_SQUARE } },
    }) as [Value, Value];
    return inverse;
  };
  return (moved, h) => {
    // The quotient first: for a row that did not move it is x / x, exactly 1.
    const ratio = graph.op("Div", [inverseNorm(moved), inverseNorm(h)]);
    return graph.op("Mul", [moved, graph.op("Where", [renorm, ratio, one])]);
  };
}

function at(values: readonly Value[], layer: number): Value {
  const value = values[layer];
  if (value === undefined) throw new Error(`no steering rows for layer ${layer}`);
  return value;
}
