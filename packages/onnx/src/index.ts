/** ONNX graphs as typed protobuf messages, and the ONNX Runtime that runs them. Knows nothing of models. */
export * from "./graph/index.ts";
export * from "./runtime/index.ts";
