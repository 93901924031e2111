export { type BodyOptions, buildBody } from "./body.ts";
export { BODY } from "./body-ports.ts";
export { buildGraphs, type GraphRole } from "./build-graphs.ts";
export type { AttentionSpec, DecoderSpec, LayerKind, RopeScaling, RopeSpec } from "./decoder-spec.ts";
export { GraphWeights } from "./graph-weights.ts";
export { HEAD, logSumExp, TOP_CANDIDATES } from "./heads.ts";
export {
  BLOCK_SIZES,
  FLOAT32,
  type MatrixFormat,
  PRECISION_NAMES,
  type Precision,
  type PrecisionName,
  type PrecisionOptions,
  precisionOf,
  providerOf,
  VOCABULARY_FORMATS,
  type VocabularyFormat,
} from "./precision.ts";
export { ropeTables } from "./rope.ts";
export { STEERING, type SteeringParts } from "./steering.ts";
export { STORED_BYTES, type StoredTensor, scalesOf, storedTensors } from "./stored-tensors.ts";
export type { WeightLocation } from "./weight-location.ts";
export { type PlannedWeight, planWeights, type SourceLayout, type SourceTensor, WEIGHT } from "./weights-plan.ts";
