import { linkSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DecoderSpec, Precision } from "@persona-mesh/model/graph";
import type { RunnableModel } from "@persona-mesh/model/runtime";
import { buildTransformersGraph } from "./transformers-graph.ts";

/** Where transformers.js looks for weights outside of the graph. */
const WEIGHTS_FILE = "model.onnx_data";

/**
 * A folder as transformers.js loads it from the Hub. The weights are the package's own file under another name, so that
 * both read the same bytes.
 */
export function writeTransformersModel(
  model: RunnableModel & { readonly precision: Precision },
  directory: string,
): string {
  const { spec, weights, precision } = model;
  const onnx = join(directory, "onnx");
  mkdirSync(onnx, { recursive: true });
  linkSync(model.weightsPath, join(onnx, WEIGHTS_FILE));
  writeFileSync(join(onnx, "model.onnx"), buildTransformersGraph(spec, weights, WEIGHTS_FILE, precision));
  writeFileSync(join(directory, "config.json"), JSON.stringify(configOf(spec)));
  // Nothing ends a text: all engines write as many tokens.
  writeFileSync(join(directory, "generation_config.json"), JSON.stringify({ _from_model_config: true }));
  return directory;
}

function configOf(spec: DecoderSpec): Record<string, unknown> {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_size: spec.hidden,
    intermediate_size: spec.intermediate,
    num_hidden_layers: spec.layers,
    num_attention_heads: spec.heads,
    num_key_value_heads: spec.kvHeads,
    head_dim: spec.headDim,
    vocab_size: spec.vocabulary,
    max_position_embeddings: spec.contextTokens,
    rms_norm_eps: spec.normEps,
    rope_theta: spec.ropes[0]?.theta,
    hidden_act: "silu",
    tie_word_embeddings: spec.tiedEmbeddings,
    "transformers.js_config": { use_external_data_format: true },
  };
}
