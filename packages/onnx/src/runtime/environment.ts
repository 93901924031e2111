import koffi from "koffi";
import { type Api, loadApi } from "./api.ts";
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

let shared: Environment | undefined;

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
  const env = out((address) => api.CreateEnv(LOG_SEVERITY.error, "onnxruntime", address));
  api.DisableTelemetryEvents(env);
  return {
    api,
    version,
    env,
    cpuMemory: out((address) => api.CreateCpuMemoryInfo(DEVICE_ALLOCATOR, DEFAULT_MEMORY, address)),
    allocator: out((address) => api.GetAllocatorWithDefaultOptions(address)),
  };
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
