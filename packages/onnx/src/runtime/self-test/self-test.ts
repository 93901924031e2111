import { runtimeVersion } from "../environment.ts";
import { OnnxRuntimeError, type OnnxRuntimeErrorCode } from "../error.ts";
import { checkBatchIndependence, type IntegerMatrix } from "./batch-independence.ts";
import { checkInPlaceCache } from "./in-place-cache.ts";

/** Failures that say what is wrong better than a failed self-test would. */
const NOT_OF_THE_RUNTIME: ReadonlySet<OnnxRuntimeErrorCode> = new Set([
  "SELF_TEST_FAILED",
  "LIBRARY_NOT_FOUND",
  "UNSUPPORTED_PLATFORM",
]);

export interface SelfTestOptions {
  /**
   * Threads per operator, as the sessions will have it: how work is cut between threads must not show in the results.
   *
   * @default one per physical core
   */
  readonly intraOpThreads?: number;
  /**
   * Formats of the integer matrices that will be served.
   *
   * @default eight and four bits in blocks of 32
   */
  readonly integers?: readonly IntegerMatrix[];
}

const INTEGERS: readonly IntegerMatrix[] = [
  { bits: 8, block: 32 },
  { bits: 4, block: 32 },
];

/**
 * Prove at start-up what the engine builds on and no documentation promises, so that another version of the runtime, or
 * another machine, can never make it silently slow or wrong:
 *
 * - past and present of GroupQueryAttention may be one buffer: each row's new key and value are written at its own
 *   position, every other byte stays, nothing is copied, and the attention is right;
 * - with prepacked weights, of floats and of integers, a row's result has the same bits alone and in any batch.
 *
 * Takes about 70 ms.
 *
 * @throws OnnxRuntimeError SELF_TEST_FAILED with what failed
 */
export async function selfTest({
  integers = INTEGERS,
  ...options
}: SelfTestOptions = {}): Promise<{ version: string; milliseconds: number }> {
  const start = performance.now();
  try {
    await checkInPlaceCache(options);
    for (const weights of ["float32", ...integers] as const) await checkBatchIndependence(options, weights);
  } catch (error) {
    throw asSelfTestFailure(error);
  }
  return { version: runtimeVersion(), milliseconds: performance.now() - start };
}

/** What the runtime refuses here, it was able to do when this package was written. */
function asSelfTestFailure(error: unknown): unknown {
  if (!(error instanceof OnnxRuntimeError) || NOT_OF_THE_RUNTIME.has(error.code)) return error;
  return new OnnxRuntimeError("SELF_TEST_FAILED", `ONNX Runtime ${runtimeVersion()}: ${error.message}`, {
    cause: error,
  });
}
