import type { GraphBuilder, Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";
import type { MatrixFormat, Precision } from "./precision.ts";
import type { WeightLocation } from "./weight-location.ts";
import { needsHead, WEIGHT } from "./weights-plan.ts";

/** Extents of a projection. */
export interface ProductShape {
  readonly in: number;
  readonly out: number;
}

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
  product(graph: GraphBuilder, x: Value, name: string, _shape: ProductShape): Value {
    return supported(this.precision.linear, () => graph.op("MatMul", [x, this.#tensor(graph, name)]));
  }

  /** Rows of the embedding, int32[…] → float32[…, hidden]. */
  embed(graph: GraphBuilder, tokens: Value, _spec: DecoderSpec): Value {
    return supported(this.precision.embedding, () =>
      graph.op("Gather", [this.#tensor(graph, WEIGHT.embedding), tokens], { attributes: { axis: 0 } }),
    );
  }

  /** hidden · Wᵀ of the output head, float32[selected, hidden] → float32[selected, vocabulary]. */
  head(graph: GraphBuilder, hidden: Value, spec: DecoderSpec): Value {
    const name = needsHead(spec, this.precision) ? WEIGHT.head : WEIGHT.embedding;
    return supported(this.precision.head, () =>
      graph.op("Gemm", [hidden, this.#tensor(graph, name)], { attributes: { transB: 1 } }),
    );
  }

  #tensor(graph: GraphBuilder, name: string): Value {
    const weight = this.#byName.get(name);
    if (weight === undefined) throw new Error(`the weights file has no tensor "${name}"`);
    return graph.external(name, weight.dtype, weight.shape, {
      location: this.#file,
      offset: weight.offset,
      byteLength: weight.byteLength,
    });
  }
}

function supported(format: MatrixFormat, build: () => Value): Value {
  if (format.kind !== "float32") throw new Error(`no operators for ${format.kind}`);
  return build();
}
