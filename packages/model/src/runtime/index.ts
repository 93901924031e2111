export type { BatchShape, BodyBatch } from "./body-batch.ts";
export type { HeadBatch } from "./head-batch.ts";
export { type HeadRole, ModelRuntime, type ModelRuntimeOptions, type RunnableModel } from "./model-runtime.ts";
