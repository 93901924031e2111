import { environment, LOG_SEVERITY, type LogSeverity, MAX_THREADS, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import type { Pointer } from "./library.ts";
import type { SharedWeights } from "./shared-weights.ts";
import type { DeviceKind } from "./tensor.ts";

export interface SessionOptions {
  /**
   * Execution provider. `webgpu` and `cuda` are named so that callers can offer them; asking for one throws
   * UNSUPPORTED_PROVIDER for now.
   *
   * @default "cpu"
   */
  readonly provider?: DeviceKind;
  /**
   * Threads of its own that share the work of one operator, the calling one included; 1 .. 1024. They sleep when they have
   * no work: those of several sessions would spin against each other.
   *
   * @default none: the session runs on the process's, see `shareThreads`
   */
  readonly intraOpThreads?: number;
  /**
   * How far the runtime may rewrite the graph.
   *
   * @default "all"
   */
  readonly optimization?: OptimizationLevel;
  /**
   * Keep freed memory of intermediate results for the next run. Without, each run allocates anew and gives back.
   *
   * @default true
   */
  readonly memoryArena?: boolean;
  /** Weights that stand in for the graph's initializers of the same name, and are shared with other sessions. */
  readonly weights?: SharedWeights;
  /** Entries of the runtime's own configuration, e.g. `{"session.disable_prepacking": "1"}`. */
  readonly config?: Readonly<Record<string, string>>;
  /** Write a profile of every operator to files whose path begins so. {@link Session.endProfiling} finishes it. */
  readonly profilePrefix?: string;
  /**
   * What the runtime writes to stderr about this session.
   *
   * @default "error"
   */
  readonly logSeverity?: LogSeverity;
}

export type OptimizationLevel = "none" | "basic" | "extended" | "all";

const OPTIMIZATION_LEVEL: Record<OptimizationLevel, number> = { none: 0, basic: 1, extended: 2, all: 99 };

/**
 * The options in native form.
 *
 * @returns a pointer for the caller to release with `ReleaseSessionOptions`
 * @throws OnnxRuntimeError UNSUPPORTED_PROVIDER, INVALID_ARGUMENT
 */
export function nativeSessionOptions(options: SessionOptions): Pointer {
  checkOptions(options);
  const { api } = environment();
  const native = out((address) => api.CreateSessionOptions(address));
  try {
    api.SetSessionLogSeverityLevel(native, LOG_SEVERITY[options.logSeverity ?? "error"]);
    api.SetSessionGraphOptimizationLevel(native, OPTIMIZATION_LEVEL[options.optimization ?? "all"]);
    if (options.intraOpThreads === undefined) api.DisablePerSessionThreads(native);
    else {
      api.SetIntraOpNumThreads(native, options.intraOpThreads);
      api.SetInterOpNumThreads(native, 1);
    }
    if (options.memoryArena === false) api.DisableCpuMemArena(native);
    if (options.profilePrefix !== undefined) api.EnableProfiling(native, options.profilePrefix);
    const config = { "session.intra_op.allow_spinning": "0", ...options.config };
    for (const [key, value] of Object.entries(config)) api.AddSessionConfigEntry(native, key, value);
    return native;
  } catch (error) {
    api.ReleaseSessionOptions(native);
    throw error;
  }
}

function checkOptions(options: SessionOptions): void {
  const provider: string = options.provider ?? "cpu";
  if (provider === "webgpu" || provider === "cuda") {
    throw new OnnxRuntimeError(
      "UNSUPPORTED_PROVIDER",
      `the execution provider "${provider}" is not supported yet; use "cpu"`,
    );
  }
  if (provider !== "cpu") {
    throw new OnnxRuntimeError("UNSUPPORTED_PROVIDER", `there is no execution provider "${provider}"; use "cpu"`);
  }
  const { intraOpThreads: threads, optimization = "all", logSeverity = "error" } = options;
  if (threads !== undefined && (!Number.isInteger(threads) || threads < 1 || threads > MAX_THREADS)) {
    throw new OnnxRuntimeError("INVALID_ARGUMENT", `intraOpThreads is ${threads}; give 1 to ${MAX_THREADS}`);
  }
  if (!(optimization in OPTIMIZATION_LEVEL)) {
    throw new OnnxRuntimeError("INVALID_ARGUMENT", `there is no optimization level "${optimization}"`);
  }
  if (!(logSeverity in LOG_SEVERITY)) {
    throw new OnnxRuntimeError("INVALID_ARGUMENT", `there is no log severity "${logSeverity}"`);
  }
}
