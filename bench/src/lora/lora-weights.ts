import {
  type DecoderSpec,
  FLOAT32,
  GraphWeights,
  type Precision,
  WEIGHT,
  type WeightLocation,
} from "@persona-mesh/model/graph";

type GraphBuilder = Parameters<GraphWeights["product"]>[0];
type Value = ReturnType<GraphWeights["product"]>;
type ProductShape = Parameters<GraphWeights["product"]>[3];

/** Inner width of an adapter's two factors. */
export const RANK = 16;

/**
 * Where a batch row's adapter comes from.
 *
 * - `shared`: one adapter for the whole batch, two plain products; what an engine does that serves one adapter at a time
 * - `gathered`: adapters in a pool, each row's gathered by its index in every step, as rows of the steering table are; a
 *   switch writes an index
 * - `placed`: each row has a place of its own that its adapter was copied to; a switch writes the adapter
 */
export type AdapterSource = "shared" | "gathered" | "placed";

/** Names of the adapter inputs of a body graph. */
export const ADAPTER = {
  /** float32[…, in, RANK]: [in, RANK] for `shared`, with the pool or the batch in front for the others. */
  down: (weight: string) => `lora_down.${weight}`,
  /** float32[…, RANK, out], the scale alpha / rank multiplied in. */
  up: (weight: string) => `lora_up.${weight}`,
  /** int32[batch], of `gathered` alone: each row's adapter in the pool. */
  rows: "lora_rows",
} as const;

/** A matrix that an adapter has factors for. */
export interface AdaptedMatrix {
  readonly weight: string;
  readonly in: number;
  readonly out: number;
}

/**
 * All projections of attention and MLP, as they are stored: query, key and value are one matrix, gate and up another. So an
 * adapter has four pairs of factors a layer and not seven: the least work that adapting all projections can be here.
 */
export function adaptedMatrices(spec: DecoderSpec): AdaptedMatrix[] {
  const { hidden, heads, kvHeads, headDim, intermediate } = spec;
  return Array.from({ length: spec.layers }, (_, layer) => [
    { weight: WEIGHT.qkv(layer), in: hidden, out: (heads + 2 * kvHeads) * headDim },
    { weight: WEIGHT.attentionOut(layer), in: heads * headDim, out: hidden },
    { weight: WEIGHT.gateUp(layer), in: hidden, out: 2 * intermediate },
    { weight: WEIGHT.down(layer), in: intermediate, out: hidden },
  ]).flat();
}

/** Elements of an adapter's factors of a matrix. */
export function factorSizes({ in: inputs, out }: AdaptedMatrix): { readonly down: number; readonly up: number } {
  return { down: inputs * RANK, up: RANK * out };
}

/**
 * The weights of a model with an adapter beside every projection: x · Wᵀ + (x · A) · B (LoRA, arXiv:2106.09685), unmerged, so
 * that rows of a batch can have different ones.
 */
export class LoraWeights extends GraphWeights {
  readonly #source: AdapterSource;
  /** Of the graph that is being built. */
  readonly #rows = new WeakMap<GraphBuilder, Value>();

  constructor(
    weights: readonly WeightLocation[],
    weightsFile: string,
    source: AdapterSource,
    precision: Precision = FLOAT32,
  ) {
    super(weights, weightsFile, precision);
    this.#source = source;
  }

  override product(graph: GraphBuilder, x: Value, name: string, shape: ProductShape): Value {
    const product = super.product(graph, x, name, shape);
    const narrow = graph.op("MatMul", [x, this.#factor(graph, ADAPTER.down(name), [shape.in, RANK])]);
    const delta = graph.op("MatMul", [narrow, this.#factor(graph, ADAPTER.up(name), [RANK, shape.out])]);
    return graph.op("Add", [product, delta]);
  }

  /** As a product takes it: [in, out] for all rows, or [batch, in, out]. */
  #factor(graph: GraphBuilder, name: string, shape: readonly [number, number]): Value {
    switch (this.#source) {
      case "shared":
        return graph.input(name, "float32", shape);
      case "placed":
        return graph.input(name, "float32", ["batch", ...shape]);
      case "gathered": {
        const pool = graph.input(name, "float32", ["adapters", ...shape]);
        return graph.op("Gather", [pool, this.#rowsOf(graph)], { attributes: { axis: 0 } });
      }
    }
  }

  #rowsOf(graph: GraphBuilder): Value {
    const rows = this.#rows.get(graph) ?? graph.input(ADAPTER.rows, "int32", ["batch"]);
    this.#rows.set(graph, rows);
    return rows;
  }
}
