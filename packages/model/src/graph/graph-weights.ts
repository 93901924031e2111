import type { GraphBuilder, Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";
import type { MatrixFormat, Precision } from "./precision.ts";
import { scalesOf } from "./stored-tensors.ts";
import type { WeightLocation } from "./weight-location.ts";
import { needsHead, WEIGHT } from "./weights-plan.ts";

/** Extents of a projection. */
export interface ProductShape {
  readonly in: number;
  readonly out: number;
}

type IntegerFormat = Extract<MatrixFormat, { kind: "nbits" }>;

/**
 * MatMulNBits rounds activations to eight bits too, block by block, and multiplies integers: several times faster than
 * with float32 activations, and the same bits for a row whatever the rows beside it (level 0 is neither).
 */
const INTEGER_ACTIVATIONS = 4;

/** Declares a package's weights in the graphs that use them, each format with the operators that read it. */
export class GraphWeights {
  readonly precision: Precision;
  readonly #byName: ReadonlyMap<string, WeightLocation>;
  readonly #file: string;

  /** @param weightsFile - name of the weights file, relative to the folder of the graphs */
  constructor(weights: readonly WeightLocation[], weightsFile: string, precision: Precision) {
    this.precision = precision;
    this.#byName = new Map(weights.map((weight) => [weight.name, weight]));
    this.#file = weightsFile;
  }

  /** Element type that attention computes in and the KV cache has; everything around it is float32. */
  get activations(): "float32" | "bfloat16" {
    return this.precision.linear.kind === "bfloat16" ? "bfloat16" : "float32";
  }

  /** A norm's or a bias's values, float32. */
  vector(graph: GraphBuilder, name: string): Value {
    return this.#tensor(graph, name);
  }

  /** x · Wᵀ of a projection of attention or MLP, float32[…, in] → float32[…, out]. */
  product(graph: GraphBuilder, x: Value, name: string, shape: ProductShape): Value {
    const format = this.precision.linear;
    switch (format.kind) {
      case "float32":
        return graph.op("MatMul", [x, this.#tensor(graph, name)]);
      case "bfloat16":
        return graph.cast(graph.op("MatMul", [graph.cast(x, "bfloat16"), this.#tensor(graph, name)]), "float32");
      case "nbits":
        return this.#integerProduct(graph, x, name, shape, format);
    }
  }

  /** Rows of the embedding, int32[…] → float32[…, hidden]. */
  embed(graph: GraphBuilder, tokens: Value, spec: DecoderSpec): Value {
    const format = this.precision.embedding;
    if (format.kind === "nbits") return this.#integerRows(graph, tokens, WEIGHT.embedding, spec.hidden, format);
    const rows = graph.op("Gather", [this.#tensor(graph, WEIGHT.embedding), tokens], { attributes: { axis: 0 } });
    return format.kind === "bfloat16" ? graph.cast(rows, "float32") : rows;
  }

  /** hidden · Wᵀ of the output head, float32[selected, hidden] → float32[selected, vocabulary]. */
  head(graph: GraphBuilder, hidden: Value, spec: DecoderSpec): Value {
    const name = needsHead(spec, this.precision) ? WEIGHT.head : WEIGHT.embedding;
    const format = this.precision.head;
    const transposed = { attributes: { transB: 1 } };
    switch (format.kind) {
      case "float32":
        return graph.op("Gemm", [hidden, this.#tensor(graph, name)], transposed);
      case "bfloat16": {
        const inputs = [graph.cast(hidden, "bfloat16"), this.#tensor(graph, name)];
        return graph.cast(graph.op("Gemm", inputs, transposed), "float32");
      }
      case "nbits":
        return this.#integerProduct(graph, hidden, name, { in: spec.hidden, out: spec.vocabulary }, format);
    }
  }

  #integerProduct(graph: GraphBuilder, x: Value, name: string, shape: ProductShape, format: IntegerFormat): Value {
    return graph.op("MatMulNBits", [x, this.#tensor(graph, name), this.#tensor(graph, scalesOf(name))], {
      domain: "com.microsoft",
      attributes: {
        K: shape.in,
        N: shape.out,
        bits: format.bits,
        block_size: format.block,
        accuracy_level: INTEGER_ACTIVATIONS,
      },
    });
  }

  #integerRows(graph: GraphBuilder, rows: Value, name: string, width: number, format: IntegerFormat): Value {
    const matrix = this.#location(name);
    const bytes = matrix.shape.slice(1).reduce((product, extent) => product * extent, 1);
    // The same bytes as a product reads, in the shape of a table.
    const table = this.#tensor(graph, name, [matrix.shape[0] as number, bytes]);
    const gathered = graph.op("GatherBlockQuantized", [table, rows, this.#tensor(graph, scalesOf(name))], {
      domain: "com.microsoft",
      attributes: { bits: format.bits, block_size: format.block, gather_axis: 0, quantize_axis: 1 },
    });
    if (width % format.block === 0) return gathered;
    const one = (constant: string, value: number) =>
      graph.constant(constant, "int64", [1], BigInt64Array.of(BigInt(value)));
    // Without what fills up the last block.
    return graph.op("Slice", [gathered, one("first", 0), one("width", width), one("element_axis", -1)]);
  }

  #tensor(graph: GraphBuilder, name: string, shape?: readonly number[]): Value {
    const weight = this.#location(name);
    return graph.external(name, weight.dtype, shape ?? weight.shape, {
      location: this.#file,
      offset: weight.offset,
      byteLength: weight.byteLength,
    });
  }

  #location(name: string): WeightLocation {
    const weight = this.#byName.get(name);
    if (weight === undefined) throw new Error(`the weights file has no tensor "${name}"`);
    return weight;
  }
}
