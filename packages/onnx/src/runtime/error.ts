/**
 * What went wrong, stable across versions of the runtime.
 *
 * The first group comes from the runtime's own status codes, the second from this package.
 */
export type OnnxRuntimeErrorCode =
  | "FAIL"
  | "INVALID_ARGUMENT"
  | "NO_SUCH_FILE"
  | "NO_MODEL"
  | "ENGINE_ERROR"
  | "RUNTIME_EXCEPTION"
  | "INVALID_PROTOBUF"
  | "MODEL_LOADED"
  | "NOT_IMPLEMENTED"
  | "INVALID_GRAPH"
  | "PROVIDER_FAIL"
  | "MODEL_LOAD_CANCELLED"
  | "MODEL_REQUIRES_COMPILATION"
  | "NOT_FOUND"
  // This package:
  /** A run was ended by its AbortSignal. What its outputs hold is undefined. */
  | "CANCELLED"
  /** A session, tensor, binding, device or weights object was used after `close()`. */
  | "USE_AFTER_CLOSE"
  /** A binding was run, or read, while a run of it is in flight; or too many asynchronous calls are under way. */
  | "BUSY"
  | "UNSUPPORTED_PROVIDER"
  | "UNSUPPORTED_PLATFORM"
  /** The runtime's library, or koffi's, is missing or is not the version that this package was written for. */
  | "LIBRARY_NOT_FOUND"
  /** A weights file that does not hold what its list of entries says. */
  | "INVALID_WEIGHTS"
  /** {@link selfTest} found that this runtime does not keep a property that the engine relies on. */
  | "SELF_TEST_FAILED";

/** Every failure of this package that is not a programming error of its own. The message begins with the code. */
export class OnnxRuntimeError extends Error {
  override readonly name = "OnnxRuntimeError";
  readonly code: OnnxRuntimeErrorCode;

  constructor(code: OnnxRuntimeErrorCode, message: string, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.code = code;
  }
}

/** `OrtErrorCode` of the C API, in its order. */
const NATIVE_CODES: readonly OnnxRuntimeErrorCode[] = [
  // 0 is "OK", which never comes with a status.
  "FAIL",
  "FAIL",
  "INVALID_ARGUMENT",
  "NO_SUCH_FILE",
  "NO_MODEL",
  "ENGINE_ERROR",
  "RUNTIME_EXCEPTION",
  "INVALID_PROTOBUF",
  "MODEL_LOADED",
  "NOT_IMPLEMENTED",
  "INVALID_GRAPH",
  "PROVIDER_FAIL",
  "MODEL_LOAD_CANCELLED",
  "MODEL_REQUIRES_COMPILATION",
  "NOT_FOUND",
];

/** An error for a native status; a code that is newer than this list becomes `FAIL`. */
export function fromNative(code: number, message: string): OnnxRuntimeError {
  return new OnnxRuntimeError(NATIVE_CODES[code] ?? "FAIL", message);
}
