import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import {
  buildGraphs,
  type DecoderSpec,
  type GraphRole,
  type PlannedWeight,
  type Precision,
  planWeights,
  type WeightLocation,
} from "../graph/index.ts";
import type { ImportedTokenizer } from "../tokenizer/import-tokenizer.ts";
import { PACKAGE_FILE } from "./manifest.ts";
import { placeWeights } from "./weights-layout.ts";

/** Names what wrote a package; raised when the same checkpoint would give other files. */
export const IMPORTER = "persona-mesh/0.1.0";

/** All of a package but the values of its weights: what follows from config, tokenizer and precision alone. */
export interface PackageParts {
  readonly spec: DecoderSpec;
  readonly precision: Precision;
  readonly plan: readonly PlannedWeight[];
  /** Places of the tensors that hold the planned weights, in the plan's order. */
  readonly locations: readonly WeightLocation[];
  readonly graphs: ReadonlyMap<GraphRole, Uint8Array>;
  readonly tokenizer: ImportedTokenizer;
}

export function packageParts(checkpoint: Checkpoint, tokenizer: ImportedTokenizer, precision: Precision): PackageParts {
  const { spec, source } = checkpoint.config;
  const plan = planWeights(spec, source, precision);
  const locations = placeWeights(plan);
  const graphs = buildGraphs(spec, locations, PACKAGE_FILE.weights, precision);
  return { spec, precision, plan, locations, graphs, tokenizer };
}
