import koffi from "koffi";
import { type Api, loadApi } from "./api.ts";
import { OnnxRuntimeError } from "./error.ts";
import type { Pointer } from "./library.ts";

/** How much the runtime writes to stderr. Whatever makes a call fail comes as an error in any case. */
export type LogSeverity = "verbose" | "info" | "warning" | "error" | "fatal";

export const LOG_SEVERITY: Record<LogSeverity, number> = { verbose: 0, info: 1, warning: 2, error: 3, fatal: 4 };

/** Memory of the host, not of an arena: tensors over it never free it. */
const DEVICE_ALLOCATOR = 0;
const DEFAULT_MEMORY = 0;

/** What the whole process shares: the library's functions and what they need at every turn. */
export interface Environment {
  readonly api: Api;
  /** Version of the loaded library, e.g. `1.30.0`. */
  readonly version: string;
  readonly env: Pointer;
  readonly cpuMemory: Pointer;
  /** Allocates what the API returns in memory of ours to free: names, lists of values. */
  readonly allocator: Pointer;
}

/** The threads that all sessions of the process share, except for those that ask for their own. */
export interface SharedThreads {
  /**
   * Threads that share the work of one operator, the calling one included; 1 .. {@link MAX_THREADS}.
   *
   * @default one per physical core
   */
  readonly threads?: number;
  /**
   * Let a thread without work look for some for a moment before it sleeps: the next operator is microseconds away. All
   * sessions share the threads, so none is in another's way.
   *
   * @default true
   */
  readonly spinning?: boolean;
}

/** More threads than any machine that we know has cores; above it is a mistake. */
export const MAX_THREADS = 1024;

let wanted: Required<SharedThreads> = { threads: 0, spinning: true };
let shared: Environment | undefined;

/**
 * Size the threads that sessions share. They come into being with the first session of the process, and stay.
 *
 * @throws OnnxRuntimeError INVALID_ARGUMENT; BUSY when they are there already, and others
 */
export function shareThreads({ threads = 0, spinning = true }: SharedThreads): void {
  if (!Number.isInteger(threads) || threads < 0 || threads > MAX_THREADS) {
    throw new OnnxRuntimeError("INVALID_ARGUMENT", `threads is ${threads}; give 1 to ${MAX_THREADS}`);
  }
  const isSame = threads === wanted.threads && spinning === wanted.spinning;
  if (shared !== undefined && !isSame) {
    throw new OnnxRuntimeError("BUSY", "the threads of this process have been made already");
  }
  wanted = { threads, spinning };
}

/**
 * The environment of this process, made at the first call and kept to its end: the runtime has one, and sessions of
 * other threads may still use it when this one is done.
 */
export function environment(): Environment {
  shared ??= createEnvironment();
  return shared;
}

/** Version of the ONNX Runtime library in use, e.g. `1.30.0`. */
export function runtimeVersion(): string {
  return environment().version;
}

function createEnvironment(): Environment {
  const { api, version } = loadApi();
  const env = environmentWithThreads(api);
  api.DisableTelemetryEvents(env);
  return {
    api,
    version,
    env,
    cpuMemory: out((address) => api.CreateCpuMemoryInfo(DEVICE_ALLOCATOR, DEFAULT_MEMORY, address)),
    allocator: out((address) => api.GetAllocatorWithDefaultOptions(address)),
  };
}

function environmentWithThreads(api: Api): Pointer {
  const threading = out((address) => api.CreateThreadingOptions(address));
  try {
    api.SetGlobalIntraOpNumThreads(threading, wanted.threads);
    // Operators run one after the other: transformer graphs are chains, and a second pool would only compete.
    api.SetGlobalInterOpNumThreads(threading, 1);
    api.SetGlobalSpinControl(threading, wanted.spinning ? 1 : 0);
    return out((address) => api.CreateEnvWithGlobalThreadPools(LOG_SEVERITY.error, "onnxruntime", threading, address));
  } finally {
    api.ReleaseThreadingOptions(threading);
  }
}

const slot = new BigUint64Array(new ArrayBuffer(8));
let slotAddress: Pointer | undefined;

/** Call a function that writes one pointer or integer through its last argument, and return that. Not re-entrant. */
export function out(call: (address: Pointer) => void): bigint {
  slotAddress ??= koffi.address(slot);
  slot[0] = 0n;
  call(slotAddress);
  return slot[0];
}
