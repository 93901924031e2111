import { GraphBuilder, type Value } from "@persona-mesh/onnx";
import type { DecoderSpec } from "./decoder-spec.ts";
import type { GraphWeights } from "./graph-weights.ts";

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
  /** float32[selected, 1] */
  maxLogit: "max_logit",
  /** float32[selected, 1]: max softmax(logits). */
  maxProbability: "max_probability",
  /** float32[selected, 1]: max softmax(logits / temperature). */
  temperedMaxProbability: "tempered_max_probability",
  /** float32[selected, 1]: Σ softmax(logits) · logits. */
  expectedLogit: "expected_logit",
  /** float32[selected, 1]: the logit of the given id. */
  pickedLogit: "picked_logit",
  /** As `maxLogit` and `maxProbability`, of the other hidden state. */
  otherMaxLogit: "other_max_logit",
  otherMaxProbability: "other_max_probability",
  /** float32[selected, 1]: Σ softmax(hidden's logits) · (hidden's logits − other's logits). */
  expectedDifference: "expected_difference",
} as const;

/**
 * log Σ exp(logits), nats.
 *
 * = max − log max softmax: two passes of vectorised kernels, where ReduceLogSumExp is a scalar loop. The logarithm is not
 * in the graph: the runtime's Log computes groups of values otherwise than single ones, so that a row's result would
 * depend on the rows beside it.
 */
export function logSumExp(maxLogit: number, maxProbability: number): number {
  return maxLogit - Math.log(maxProbability);
}

/** The most likely tokens with what exact sampling needs of the rest: the head of the common decode step. */
export function buildTopHead(spec: DecoderSpec, weights: GraphWeights): Uint8Array {
  const graph = new GraphBuilder("head-top");
  const logits = readLogits(graph, spec, weights, HEAD.hidden);
  const inverseTemperature = graph.input(HEAD.inverseTemperature, "float32", ["selected", 1]);
  const candidates = Math.min(TOP_CANDIDATES, spec.vocabulary);
  const k = graph.constant("k", "int64", [1], BigInt64Array.of(BigInt(candidates)));
  const [topLogits, topIds] = graph.ops("TopK", [logits, k], [{ global: HEAD.topLogits }, { global: HEAD.topIds }], {
    attributes: { axis: -1, largest: 1, sorted: 1 },
  });
  graph.expose(topLogits as Value, "float32", ["selected", candidates]);
  graph.expose(topIds as Value, "int64", ["selected", candidates]);

  // The first candidate is where every maximum over the vocabulary is: reading it there saves passes over all logits.
  const first = graph.constant("first", "int64", [1], BigInt64Array.of(0n));
  const firstOf = (x: Value) => graph.op("Gather", [x, first], { attributes: { axis: 1 } });
  const largest = (x: Value) => graph.op("GatherElements", [x, firstOf(topIds as Value)], { attributes: { axis: 1 } });
  const probabilities = softmax(graph, logits);
  expose(graph, HEAD.maxLogit, firstOf(topLogits as Value));
  expose(graph, HEAD.maxProbability, largest(probabilities));
  exposeExpectedLogit(graph, logits, probabilities);
  const tempered = graph.op("Mul", [logits, inverseTemperature]);
  expose(graph, HEAD.temperedMaxProbability, largest(softmax(graph, tempered)));
  return graph.build();
}

/** Every logit: for what cannot be decided from the top candidates. */
export function buildLogitsHead(spec: DecoderSpec, weights: GraphWeights): Uint8Array {
  const graph = new GraphBuilder("head-logits");
  const [logits] = graph.ops("Identity", [readLogits(graph, spec, weights, HEAD.hidden)], [{ global: HEAD.logits }]);
  graph.expose(logits as Value, "float32", ["selected", spec.vocabulary]);
  return graph.build();
}

/** Log-probability of one given token per position, and the entropy there. */
export function buildScoreHead(spec: DecoderSpec, weights: GraphWeights): Uint8Array {
  const graph = new GraphBuilder("head-score");
  const logits = readLogits(graph, spec, weights, HEAD.hidden);
  const ids = graph.input(HEAD.ids, "int32", ["selected", 1]);
  expose(graph, HEAD.pickedLogit, graph.op("GatherElements", [logits, ids], { attributes: { axis: 1 } }));
  exposeEntropy(graph, logits, softmax(graph, logits));
  return graph.build();
}

/** Kullback–Leibler divergence between the distributions of two hidden states, row by row. */
export function buildDivergenceHead(spec: DecoderSpec, weights: GraphWeights): Uint8Array {
  const graph = new GraphBuilder("head-divergence");
  const logits = readLogits(graph, spec, weights, HEAD.hidden);
  const others = readLogits(graph, spec, weights, HEAD.otherHidden);
  const probabilities = softmax(graph, logits);
  expose(graph, HEAD.maxLogit, max(graph, logits));
  expose(graph, HEAD.maxProbability, max(graph, probabilities));
  expose(graph, HEAD.otherMaxLogit, max(graph, others));
  expose(graph, HEAD.otherMaxProbability, max(graph, softmax(graph, others)));
  const difference = graph.op("Sub", [logits, others]);
  expose(graph, HEAD.expectedDifference, expectation(graph, probabilities, difference));
  return graph.build();
}

/** Logits of hidden states, capped where the model caps them (Gemma 2, arXiv:2408.00118), float32[selected, vocabulary]. */
function readLogits(graph: GraphBuilder, spec: DecoderSpec, weights: GraphWeights, input: string): Value {
  const hidden = graph.input(input, "float32", ["selected", spec.hidden]);
  const logits = weights.head(graph, hidden, spec);
  const cap = spec.logitSoftCap;
  if (cap === null) return logits;
  const scale = graph.constant("logit_cap", "float32", [], Float32Array.of(cap));
  return graph.op("Mul", [graph.op("Tanh", [graph.op("Div", [logits, scale])]), scale]);
}

/** What log Σ exp and the entropy are made of: H = log Σ exp(logits) − Σ p · logits. */
function exposeEntropy(graph: GraphBuilder, logits: Value, probabilities: Value): void {
  expose(graph, HEAD.maxLogit, max(graph, logits));
  expose(graph, HEAD.maxProbability, max(graph, probabilities));
  exposeExpectedLogit(graph, logits, probabilities);
}

function exposeExpectedLogit(graph: GraphBuilder, logits: Value, probabilities: Value): void {
  // A logit of −∞ has probability 0 and would make 0 · −∞; the model's own logits are finite.
  expose(graph, HEAD.expectedLogit, expectation(graph, probabilities, logits));
}

function softmax(graph: GraphBuilder, x: Value): Value {
  return graph.op("Softmax", [x], { attributes: { axis: -1 } });
}

function max(graph: GraphBuilder, x: Value): Value {
  const axis = graph.constant("axis", "int64", [1], BigInt64Array.of(-1n));
  return graph.op("ReduceMax", [x, axis], { attributes: { keepdims: 1 } });
}

/** Σ p · x over the vocabulary, float32[selected, 1]: a product of two rows, which needs no memory for the terms. */
function expectation(graph: GraphBuilder, probabilities: Value, x: Value): Value {
  const rowAxis = graph.constant("row_axis", "int64", [1], BigInt64Array.of(1n));
  const asRow = (value: Value) => graph.op("Unsqueeze", [value, rowAxis]);
  const product = graph.op("FusedMatMul", [asRow(probabilities), asRow(x)], {
    domain: "com.microsoft",
    attributes: { transB: 1 },
  });
  return graph.op("Squeeze", [product, rowAxis]);
}

function expose(graph: GraphBuilder, name: string, value: Value): void {
  const [named] = graph.ops("Identity", [value], [{ global: name }]);
  graph.expose(named as Value, "float32", ["selected", 1]);
}
