/** The mesh from the outside: a typed client of its workers, and the extraction of vectors over it. */
export type { CallOptions } from "@persona-mesh/service/client";
export {
  type CaptureInput,
  type GenerateInput,
  InferenceClient,
  type InferenceClientOptions,
  type ScoreInput,
  type TlsOptions,
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
export { collectReply, type GenerateEvent, type Reply } from "./reply.ts";
