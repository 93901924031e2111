import type { GraphBuilder, Value } from "@persona-mesh/onnx";

/** Where a tensor lies in the package's weights file. */
export interface WeightLocation {
  readonly name: string;
  readonly dtype: "float32";
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** Looks weights up by name and declares them in the graph that asks. */
export type WeightLookup = (graph: GraphBuilder, name: string) => Value;

/** @param weightsFile - name of the weights file, relative to the folder of the graphs */
export function weightLookup(weights: readonly WeightLocation[], weightsFile: string): WeightLookup {
  const byName = new Map(weights.map((weight) => [weight.name, weight]));
  return (graph, name) => {
    const weight = byName.get(name);
    if (weight === undefined) throw new Error(`the weights file has no tensor "${name}"`);
    return graph.external(name, weight.dtype, weight.shape, {
      location: weightsFile,
      offset: weight.offset,
      byteLength: weight.byteLength,
    });
  };
}
