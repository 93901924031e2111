export { BODY, type BodyOptions, buildBody } from "./body.ts";
export { buildGraphs, type GraphRole } from "./build-graphs.ts";
export type { DecoderSpec } from "./decoder-spec.ts";
export { HEAD, logSumExp, TOP_CANDIDATES } from "./heads.ts";
export { STEERING, type SteeringParts } from "./steering.ts";
export { type WeightLocation, type WeightLookup, weightLookup } from "./weight-location.ts";
export { type PlannedWeight, planWeights, WEIGHT } from "./weights-plan.ts";
