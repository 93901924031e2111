export {
  CheckpointError,
  type CheckpointReason,
  ModelError,
  ModelPackageError,
  type ModelPackageReason,
  TokenizerError,
  type TokenizerReason,
} from "./errors.ts";
export type { DecoderSpec, GraphRole } from "./graph/index.ts";
export { type ImportOptions, type ImportResult, importCheckpoint } from "./import-checkpoint.ts";
export { type ListedModel, listModels } from "./models-directory/list-models.ts";
export {
  isModelName,
  type ModelsEnvironment,
  modelNameOf,
  modelsDirectory,
  resolveModel,
} from "./models-directory/models-directory.ts";
export { checkRemovable, type RemovableModel, removeModel } from "./models-directory/remove-model.ts";
export type { ImportProgress } from "./package/import-progress.ts";
export { type LoadPackageOptions, loadPackage, type ModelPackage, readManifest } from "./package/load-package.ts";
export type { ModelManifest } from "./package/manifest.ts";
export {
  CHAT_ROLES,
  type ChatMessage,
  type ChatRole,
  ChatTemplate,
  type RenderedChat,
  type RenderOptions,
} from "./tokenizer/chat-template.ts";
export { loadTokenizer, type ModelText } from "./tokenizer/load-tokenizer.ts";
export { type DecodeOptions, StreamingDecoder } from "./tokenizer/streaming-decoder.ts";
export { type EncodeOptions, MAX_TEXT_CHARACTERS, Tokenizer } from "./tokenizer/tokenizer.ts";
