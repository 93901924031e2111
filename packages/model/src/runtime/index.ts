export { type BatchShape, BodyBatch } from "./body-batch.ts";
export { HeadBatch } from "./head-batch.ts";
export { KvCache } from "./kv-cache.ts";
export {
  type HeadRole,
  ModelRuntime,
  type ModelRuntimeOptions,
  type RunnableModel,
  ropeTensors,
} from "./model-runtime.ts";
