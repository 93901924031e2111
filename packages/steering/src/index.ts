export {
  ALPHA_STEP_HUNDREDTHS,
  CONTEXT_CAP_HUNDREDTHS,
  capOf,
  type DeploymentContext,
  effectiveAlpha,
  formatAlpha,
  gainFor,
  HARD_CAP_HUNDREDTHS,
  requireAlphaWithin,
  SWEEP_CAP_HUNDREDTHS,
  stepDown,
  stepsToCap,
  toHundredths,
} from "./alpha.ts";
export { auc } from "./auc.ts";
export { BaselineAccumulator, type BaselineSample, MAX_BASELINE_TOKENS } from "./baseline.ts";
export { canonicalJson, type JsonValue } from "./canonical-json.ts";
export {
  type CoherencePart,
  type CoherenceScore,
  coherence,
  coherenceOf,
  ENTROPY_BAND,
  KL_LIMIT_NATS,
  REPETITION_LIMIT,
} from "./coherence.ts";
export { type CoherenceBaseline, coherenceBaseline, MIN_BASELINE_REPLIES } from "./coherence-baseline.ts";
export { type ComposeOptions, compose } from "./compose.ts";
export {
  type Composed,
  type Composition,
  type CompositionPolicy,
  type LayerComposition,
  type Rejected,
  requireComposed,
  type Scale,
} from "./composition.ts";
export { MAX_OVERLAP, MIN_REMAINDER, TOTAL_DOSE_CAPS } from "./composition-findings.ts";
export { type ContrastivePairs, MAX_PAIRS, MIN_PAIRS } from "./contrastive-pairs.ts";
export {
  type CompositionDescription,
  describeComposition,
  type FindingDescription,
  type LayerDescription,
} from "./describe-composition.ts";
export { diffVersions, type FieldDiff, type LayerDiff, type VersionDiff } from "./diff-versions.ts";
export type { ExtractionMethod } from "./difference-axis.ts";
export { entropyOfLogits, entropyOfProbabilities, logSumExp } from "./entropy.ts";
export {
  type AlphaReason,
  type CompositionReason,
  type ErrorDetails,
  type ExtractionReason,
  type ScoreReason,
  SteeringError,
  type SteeringReason,
  type VectorFormatReason,
} from "./error.ts";
export { EXTRACTOR_VERSION, type ExtractOptions, extract } from "./extract.ts";
export type { Baseline, Extraction, LayerExtraction, LayerQuality } from "./extraction.ts";
export {
  type ControlVector,
  type ImportedDirection,
  type ImportFinding,
  type ImportFindingReason,
  type ReadOptions,
  readControlVector,
} from "./formats/control-vector.ts";
export { type ImportOptions, importedVersion } from "./formats/imported-version.ts";
export { type ControlVectorFormat, PRODUCERS, type Producer } from "./formats/producer.ts";
export { type WriteGgufOptions, writeGguf } from "./formats/write-gguf.ts";
export { type WriteSafetensorsOptions, writeSafetensors } from "./formats/write-safetensors.ts";
export {
  type AlphaSpan,
  Guard,
  type GuardCause,
  type GuardEvent,
  type GuardedToken,
  type GuardOptions,
} from "./guard.ts";
export {
  type BandPolicy,
  type BaselineReply,
  bandOf,
  type GuardBand,
  guardBand,
  MIN_BAND_REPLIES,
  measureWindows,
  type WindowStatistics,
} from "./guard-band.ts";
export {
  type BaselineSample as GuardBaselineSample,
  baselineSample as guardBaselineSample,
  decodeGuardBaseline,
  encodeGuardBaseline,
  type GuardBaseline,
  MAX_GUARD_BASELINE_BYTES,
  sampleFor,
} from "./guard-baseline.ts";
export { DEFAULT_GUARD_POLICY, GUARD_POLICY_BOUNDS, type GuardPolicy } from "./guard-policy.ts";
export { klDivergence } from "./kl.ts";
export { middleBand } from "./layer-band.ts";
export { REPETITION_WINDOW, repetition, replyRepetition } from "./repetition.ts";
export { MAX_SCORED_TOKENS, measureReply, type Reply, type ReplyMeasures } from "./reply.ts";
export { MIN_SEPARATION, requireSeparation, separates, separationFloor } from "./separation.ts";
export { type Finding, type LayerDirection, MAX_TERMS, type Term, type TermLimits, UNIT_TOLERANCE } from "./term.ts";
export {
  decodeVector,
  encodeVector,
  MAX_HEADER_BYTES,
  MAX_VECTOR_FILE_BYTES,
  type VectorVersion,
  versionDigest,
} from "./vector-file.ts";
export {
  type ExtractedManifest,
  IMPORTED_FORMAT_VERSION,
  type ImportedManifest,
  type ImportedOrigin,
  MAX_HIDDEN_SIZE,
  MAX_LAYER_COUNT,
  type Pooling,
  VECTOR_FORMAT_VERSION,
  type VectorManifest,
} from "./vector-manifest.ts";
export {
  addScaled,
  cosine,
  dot,
  gramMatrix,
  isFiniteVector,
  MIN_NORM,
  norm,
  normalize,
  removeComponent,
  subtractComponent,
  type Vector,
} from "./vector-math.ts";
