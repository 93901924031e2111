import { GraphBuilder } from "../../graph/index.ts";
import { runtimeVersion } from "../environment.ts";
import { OnnxRuntimeError } from "../error.ts";
import { Session } from "../session.ts";
import type { SessionOptions } from "../session-options.ts";
import { Tensor } from "../tensor.ts";
import { sameBits } from "./batch-independence.ts";
import { pseudoRandom } from "./pseudo-random.ts";

const HEADS = 4;
const KV_HEADS = 2;
const HEAD_DIM = 16;
const QUERY = HEADS * HEAD_DIM;
const KV = KV_HEADS * HEAD_DIM;

/** Tokens that each row has before the step: rows of a batch differ, and one is empty. */
const LENGTHS = [5, 0, 11];
const MAX_TOKENS = 12;

/** Largest difference from attention computed here in double precision, for values in [-1, 1). */
const TOLERANCE = 1e-5;

/**
 * A cache of 2 × 128 MiB that is never touched but for one token, and the time that a step over it may take. Copying it
 * takes 9 ms for the keys alone, measured on two cores; a step in place 0.1 ms. On a busy machine a step may be
 * interrupted, so the quickest of some counts.
 */
const LARGE_MAX_TOKENS = (128 << 20) / (4 * KV);
const LARGE_STEP_MILLISECONDS = 2;
const LARGE_STEP_ATTEMPTS = 25;

/** What a test does wrong on purpose, to show that the check sees it. */
export interface Sabotage {
  /** Keep the step's keys and values out of the cache, as a runtime that copied its outputs would. */
  readonly separatePresent?: boolean;
  /** Declare a length that is off by this for the first row. */
  readonly lengthError?: number;
  /** Copy the cache of keys in every step, unasked. */
  readonly copiedCache?: boolean;
}

/**
 * One decode step of ragged rows over a cache that is past and present at once: writes exactly the new keys and values,
 * attends to exactly the row's own tokens, and does not copy the cache.
 *
 * @throws OnnxRuntimeError SELF_TEST_FAILED
 */
export async function checkInPlaceCache(options: SessionOptions, sabotage: Sabotage = {}): Promise<void> {
  using session = await Session.load(attentionGraph(sabotage), options);
  await checkStep(session, sabotage);
  await checkNothingIsCopied(session);
}

/** One GroupQueryAttention without rotary embedding, so that keys enter the cache as they are. */
function attentionGraph(sabotage: Sabotage): Uint8Array {
  const graph = new GraphBuilder("in-place-cache");
  const cache = ["batch", KV_HEADS, "maxTokens", HEAD_DIM];
  const inputs = [
    graph.input("query", "float32", ["batch", 1, QUERY]),
    graph.input("key", "float32", ["batch", 1, KV]),
    graph.input("value", "float32", ["batch", 1, KV]),
    graph.input("pastKey", "float32", cache),
    graph.input("pastValue", "float32", cache),
    graph.input("lastPositions", "int32", ["batch"]),
    graph.input("totalTokens", "int32", []),
  ];
  const outputs = ["attended", "presentKey", "presentValue"].map((global) => ({ global }));
  const shapes = [["batch", 1, QUERY], cache, cache];
  graph
    .ops("GroupQueryAttention", inputs, outputs, {
      domain: "com.microsoft",
      attributes: { num_heads: HEADS, kv_num_heads: KV_HEADS },
    })
    .forEach((value, index) => {
      graph.expose(value, "float32", shapes[index] ?? []);
    });
  if (sabotage.copiedCache) {
    // The runtime computes every output of a graph, fetched or not.
    for (const copy of graph.ops("Identity", inputs.slice(3, 4), [{ global: "copy" }]))
      graph.expose(copy, "float32", cache);
  }
  return graph.build();
}

interface Step {
  /** Tokens of each row before the step. */
  readonly lengths: readonly number[];
  readonly maxTokens: number;
  /** float32[batch, QUERY] */
  readonly query: Float32Array;
  /** float32[batch, KV] each */
  readonly key: Float32Array;
  readonly value: Float32Array;
  /** float32[batch, KV_HEADS, maxTokens, HEAD_DIM] each; the step writes them */
  readonly keys: Float32Array;
  readonly values: Float32Array;
}

/** Bind a step over its cache. The caller runs it and reads `attended`, float32[batch, QUERY]. */
function bindStep(session: Session, step: Step, sabotage: Sabotage = {}) {
  const { lengths, maxTokens } = step;
  const batch = lengths.length;
  const attended = new Float32Array(batch * QUERY);
  const cache = [batch, KV_HEADS, maxTokens, HEAD_DIM];
  const keys = Tensor.from("float32", cache, step.keys);
  const values = Tensor.from("float32", cache, step.values);
  const elsewhere = () => Tensor.from("float32", cache, new Float32Array(step.keys.length));
  const positions = Int32Array.from(lengths, (length, row) => length + (row === 0 ? (sabotage.lengthError ?? 0) : 0));
  const inputs = {
    query: Tensor.from("float32", [batch, 1, QUERY], step.query),
    key: Tensor.from("float32", [batch, 1, KV], step.key),
    value: Tensor.from("float32", [batch, 1, KV], step.value),
    pastKey: keys,
    pastValue: values,
    lastPositions: Tensor.from("int32", [batch], positions),
    totalTokens: Tensor.from("int32", [], Int32Array.of(Math.max(...positions) + 1)),
  };
  const outputs = {
    attended: Tensor.from("float32", [batch, 1, QUERY], attended),
    presentKey: sabotage.separatePresent ? elsewhere() : keys,
    presentValue: sabotage.separatePresent ? elsewhere() : values,
  };
  const binding = session.bind({ inputs, outputs });
  // The binding keeps them until it closes.
  for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.close();
  return { binding, attended };
}

async function checkStep(session: Session, sabotage: Sabotage): Promise<void> {
  const batch = LENGTHS.length;
  const cacheLength = batch * KV_HEADS * MAX_TOKENS * HEAD_DIM;
  const step: Step = {
    lengths: LENGTHS,
    maxTokens: MAX_TOKENS,
    query: pseudoRandom(1, batch * QUERY),
    key: pseudoRandom(2, batch * KV),
    value: pseudoRandom(3, batch * KV),
    keys: pseudoRandom(4, cacheLength),
    values: pseudoRandom(5, cacheLength),
  };
  const expectedKeys = written(step.keys, step.key);
  const expectedValues = written(step.values, step.value);
  const { binding, attended } = bindStep(session, step, sabotage);
  using _ = binding;
  await session.run(binding);
  if (!sameBits(step.keys, expectedKeys) || !sameBits(step.values, expectedValues)) {
    throw failed("a decode step does not write its keys and values into the cache in place, or writes elsewhere in it");
  }
  const worst = Math.max(...attention(step).map((value, index) => Math.abs(value - (attended[index] ?? Number.NaN))));
  if (!(worst <= TOLERANCE)) throw failed(`attention over the cache is wrong by ${worst}`);
}

/** The cache after the step: each row's new token stands behind its last, all else is as it was. */
function written(cache: Float32Array, added: Float32Array): Float32Array {
  const result = cache.slice();
  LENGTHS.forEach((length, row) => {
    for (let head = 0; head < KV_HEADS; head++) {
      const from = row * KV + head * HEAD_DIM;
      result.set(added.subarray(from, from + HEAD_DIM), ((row * KV_HEADS + head) * MAX_TOKENS + length) * HEAD_DIM);
    }
  });
  return result;
}

/** Softmax attention of each row's query over its own tokens, the new one included; number[batch × QUERY]. */
function attention({ lengths, maxTokens, query, keys, values }: Step): number[] {
  return lengths.flatMap((length, row) =>
    Array.from({ length: HEADS }, (_, head) => {
      const kvHead = Math.floor((head * KV_HEADS) / HEADS);
      const at = (token: number, dim: number) => ((row * KV_HEADS + kvHead) * maxTokens + token) * HEAD_DIM + dim;
      const weights = Array.from({ length: length + 1 }, (_, token) => {
        let dot = 0;
        for (let dim = 0; dim < HEAD_DIM; dim++) {
          dot += (query[(row * HEADS + head) * HEAD_DIM + dim] ?? 0) * (keys[at(token, dim)] ?? 0);
        }
        return Math.exp(dot / Math.sqrt(HEAD_DIM));
      });
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      return Array.from({ length: HEAD_DIM }, (_, dim) =>
        weights.reduce((sum, weight, token) => sum + (weight / total) * (values[at(token, dim)] ?? 0), 0),
      );
    }).flat(),
  );
}

async function checkNothingIsCopied(session: Session): Promise<void> {
  const length = LARGE_MAX_TOKENS * KV;
  const step: Step = {
    lengths: [0],
    maxTokens: LARGE_MAX_TOKENS,
    query: pseudoRandom(1, QUERY),
    key: pseudoRandom(2, KV),
    value: pseudoRandom(3, KV),
    keys: new Float32Array(length),
    values: new Float32Array(length),
  };
  using binding = bindStep(session, step).binding;
  let quickest = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < LARGE_STEP_ATTEMPTS && quickest > LARGE_STEP_MILLISECONDS; attempt++) {
    const start = performance.now();
    await session.run(binding);
    quickest = Math.min(quickest, performance.now() - start);
  }
  if (quickest > LARGE_STEP_MILLISECONDS) {
    throw failed(
      `a decode step over a cache of 256 MiB takes ${quickest.toFixed(1)} ms at best, so the cache is probably copied`,
    );
  }
}

function failed(what: string): OnnxRuntimeError {
  return new OnnxRuntimeError("SELF_TEST_FAILED", `ONNX Runtime ${runtimeVersion()}: ${what}`);
}
