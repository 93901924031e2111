/** The mesh from the outside: typed clients of its workers and its registry, and the extraction of vectors. */
export type { CallOptions } from "@persona-mesh/service/client";
export type { TlsOptions } from "./channel-credentials.ts";
export {
  type CaptureInput,
  type GenerateInput,
  InferenceClient,
  type InferenceClientOptions,
  type ScoreInput,
} from "./client.ts";
export { type ContrastPair, parseBaseline, parsePairs, type ReplySample } from "./contrast-samples.ts";
export {
  type CaptureClient,
  type ExtractedVector,
  type ExtractionProgress,
  type ExtractVectorOptions,
  extractVector,
} from "./extract-vector.ts";
export { MAX_SAMPLES_FILE_BYTES, readJsonFile } from "./json-file.ts";
export { LocalError, type LocalReason } from "./local-error.ts";
export {
  type BaselineClient,
  type BaselinePrompt,
  type MeasureBaselineOptions,
  measureBaseline,
} from "./measure-baseline.ts";
export { RegistryClient, type RegistryClientOptions } from "./registry/registry-client.ts";
export { type WorkersReached, waitForWorkers } from "./registry/wait-for-workers.ts";
export { type ChoiceEvent, collectReply, type GenerateEvent, type Reply } from "./reply.ts";
