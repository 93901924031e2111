import { GraphBuilder, type OutputName, type Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";
import type { WeightLookup } from "./weight-location.ts";
import { WEIGHT } from "./weights-plan.ts";

/** Candidates that the top head gives: enough to decide nearly every token without the full logits. */
export const TOP_CANDIDATES = 64;

/** Names of the inputs and outputs of the head graphs. All start from hidden states after the final norm. */
export const HEAD = {
  /** float32[selected, hidden] */
  hidden: "hidden",
  /** float32[selected, hidden]: the second side of a divergence. */
  otherHidden: "other_hidden",
  /** float32[selected, 1]: 1 / temperature. */
  inverseTemperature: "inverse_temperature",
  /** int32[selected, 1]: token ids to score. */
  ids: "ids",
  /** float32[selected, vocabulary] */
  logits: "logits",
  /** float32[selected, candidates], descending. */
  topLogits: "top_logits",
  /** int64[selected, candidates] */
  topIds: "top_ids",
  /** float32[selected, 1]: log Σ exp(logits). */
  logSumExp: "log_sum_exp",
  /** float32[selected, 1]: log Σ exp(logits / temperature). */
  temperedLogSumExp: "tempered_log_sum_exp",
  /** float32[selected, 1]: Shannon entropy of softmax(logits), nats. */
  entropy: "entropy",
  /** float32[selected, 1]: log softmax(logits)[id], nats. */
  logProb: "log_prob",
  /** float32[selected, 1]: KL(softmax(hidden's logits) ‖ softmax(other's logits)), nats. */
  divergence: "divergence",
} as const;

/** The most likely tokens with what exact sampling needs of the rest: the head of the common decode step. */
export function buildTopHead(spec: DecoderSpec, weight: WeightLookup): Uint8Array {
  const graph = new GraphBuilder("head-top");
  const logits = readLogits(graph, spec, weight, HEAD.hidden);
  const inverseTemperature = graph.input(HEAD.inverseTemperature, "float32", ["selected", 1]);
  const candidates = Math.min(TOP_CANDIDATES, spec.vocabulary);
  const k = graph.constant("k", "int64", [1], BigInt64Array.of(BigInt(candidates)));
  const [topLogits, topIds] = graph.ops("TopK", [logits, k], [{ global: HEAD.topLogits }, { global: HEAD.topIds }], {
    attributes: { axis: -1, largest: 1, sorted: 1 },
  });
  graph.expose(topLogits as Value, "float32", ["selected", candidates]);
  graph.expose(topIds as Value, "int64", ["selected", candidates]);

  const { logSumExp, probabilities } = normaliser(graph, logits);
  expose(graph, HEAD.logSumExp, logSumExp);
  expose(graph, HEAD.entropy, entropy(graph, logits, logSumExp, probabilities));
  const tempered = graph.op("Mul", [logits, inverseTemperature]);
  expose(graph, HEAD.temperedLogSumExp, normaliser(graph, tempered).logSumExp);
  return graph.build();
}

/** Every logit: for what cannot be decided from the top candidates. */
export function buildLogitsHead(spec: DecoderSpec, weight: WeightLookup): Uint8Array {
  const graph = new GraphBuilder("head-logits");
  const logits = readLogits(graph, spec, weight, HEAD.hidden, { global: HEAD.logits });
  graph.expose(logits, "float32", ["selected", spec.vocabulary]);
  return graph.build();
}

/** Log-probability of one given token per position, and the entropy there. */
export function buildScoreHead(spec: DecoderSpec, weight: WeightLookup): Uint8Array {
  const graph = new GraphBuilder("head-score");
  const logits = readLogits(graph, spec, weight, HEAD.hidden);
  const ids = graph.input(HEAD.ids, "int32", ["selected", 1]);
  const { logSumExp, probabilities } = normaliser(graph, logits);
  const picked = graph.op("GatherElements", [logits, ids], { attributes: { axis: 1 } });
  expose(graph, HEAD.logProb, graph.op("Sub", [picked, logSumExp]));
  expose(graph, HEAD.entropy, entropy(graph, logits, logSumExp, probabilities));
  return graph.build();
}

/** Kullback–Leibler divergence between the distributions of two hidden states, row by row. */
export function buildDivergenceHead(spec: DecoderSpec, weight: WeightLookup): Uint8Array {
  const graph = new GraphBuilder("head-divergence");
  const logits = readLogits(graph, spec, weight, HEAD.hidden);
  const others = readLogits(graph, spec, weight, HEAD.otherHidden);
  const own = normaliser(graph, logits);
  const other = normaliser(graph, others);
  const ratio = graph.op("Sub", [graph.op("Sub", [logits, own.logSumExp]), graph.op("Sub", [others, other.logSumExp])]);
  expose(graph, HEAD.divergence, sumOverVocabulary(graph, graph.op("Mul", [own.probabilities, ratio])));
  return graph.build();
}

/** hidden · Wᵀ, with the matrix as it lies in the checkpoint: a tied head reads the embedding. */
function readLogits(
  graph: GraphBuilder,
  spec: DecoderSpec,
  weight: WeightLookup,
  input: string,
  output: OutputName = "logits",
): Value {
  const hidden = graph.input(input, "float32", ["selected", spec.hidden]);
  const matrix = weight(graph, spec.tiedEmbeddings ? WEIGHT.embedding : WEIGHT.head);
  const [logits] = graph.ops("Gemm", [hidden, matrix], [output], { attributes: { transB: 1 } });
  return logits as Value;
}

/**
 * log Σ exp and softmax of the logits.
 *
 * log Σ exp = max − log max softmax: two passes of vectorised kernels, where ReduceLogSumExp is a scalar loop.
 */
function normaliser(graph: GraphBuilder, logits: Value): { logSumExp: Value; probabilities: Value } {
  const probabilities = graph.op("Softmax", [logits], { attributes: { axis: -1 } });
  const axis = graph.constant("axis", "int64", [1], BigInt64Array.of(-1n));
  const max = (x: Value) => graph.op("ReduceMax", [x, axis], { attributes: { keepdims: 1 } });
  return { logSumExp: graph.op("Sub", [max(logits), graph.op("Log", [max(probabilities)])]), probabilities };
}

/** H = log Σ exp(logits) − Σ p · logits. */
function entropy(graph: GraphBuilder, logits: Value, logSumExp: Value, probabilities: Value): Value {
  // A logit of −∞ has probability 0 and would make 0 · −∞; the model's own logits are finite.
  return graph.op("Sub", [logSumExp, sumOverVocabulary(graph, graph.op("Mul", [probabilities, logits]))]);
}

function sumOverVocabulary(graph: GraphBuilder, x: Value): Value {
  const axis = graph.constant("axis", "int64", [1], BigInt64Array.of(-1n));
  return graph.op("ReduceSum", [x, axis], { attributes: { keepdims: 1 } });
}

function expose(graph: GraphBuilder, name: string, value: Value): void {
  const [named] = graph.ops("Identity", [value], [{ global: name }]);
  graph.expose(named as Value, "float32", ["selected", 1]);
}
