import koffi from "koffi";
import { fromNative, OnnxRuntimeError } from "./error.ts";
import { libraryPath, loadLibrary, type Pointer } from "./library.ts";

/** The C API is append-only: a library that knows this version has all of {@link LAYOUT} at the same places. */
const API_VERSION = 22;

/** Entries of the table that we read; every index in {@link LAYOUT} is below. */
const TABLE_ENTRIES = 170;

type Out = Pointer;
type Path = string;

/**
 * A function that returns an `OrtStatus`: it throws, after having copied and released the status. `async` runs it on a
 * thread of libuv's pool and gives the same error to `done`; memory behind pointer arguments must live until then.
 */
type StatusCall<Args extends unknown[]> = ((...args: Args) => void) & {
  async(...args: [...Args, done: (error: OnnxRuntimeError | null) => void]): void;
};

type Call<Args extends unknown[], Result = void> = (...args: Args) => Result;

/** The functions of `OrtApi` that this package uses, under their C names. `Out` is the address of the result. */
export interface Api {
  CreateThreadingOptions: StatusCall<[out: Out]>;
  /** 0 for one thread per physical core. */
  SetGlobalIntraOpNumThreads: StatusCall<[options: Pointer, threads: number]>;
  SetGlobalInterOpNumThreads: StatusCall<[options: Pointer, threads: number]>;
  SetGlobalSpinControl: StatusCall<[options: Pointer, allowed: number]>;
  ReleaseThreadingOptions: Call<[options: Pointer]>;
  /** Severity below which the default logger (stderr) is silent, and the name that its lines carry. */
  CreateEnvWithGlobalThreadPools: StatusCall<[severity: number, logId: string, threading: Pointer, out: Out]>;
  /** The Windows build reports usage unless told not to; elsewhere this does nothing. */
  DisableTelemetryEvents: StatusCall<[env: Pointer]>;

  /** The session takes prepacked forms of shared initializers from the container, if any, and adds those it lacks. */
  CreateSessionWithPrepackedWeightsContainer: StatusCall<
    [env: Pointer, path: Path, options: Pointer, container: Pointer | null, out: Out]
  >;
  /** The bytes are parsed during the call and not kept. */
  CreateSessionFromArrayWithPrepackedWeightsContainer: StatusCall<
    [env: Pointer, bytes: Pointer, length: number, options: Pointer, container: Pointer | null, out: Out]
  >;
  CreatePrepackedWeightsContainer: StatusCall<[out: Out]>;

  CreateSessionOptions: StatusCall<[out: Out]>;
  /** The session runs on the environment's threads. */
  DisablePerSessionThreads: StatusCall<[options: Pointer]>;
  SetIntraOpNumThreads: StatusCall<[options: Pointer, threads: number]>;
  SetInterOpNumThreads: StatusCall<[options: Pointer, threads: number]>;
  SetSessionGraphOptimizationLevel: StatusCall<[options: Pointer, level: number]>;
  SetSessionLogSeverityLevel: StatusCall<[options: Pointer, severity: number]>;
  AddSessionConfigEntry: StatusCall<[options: Pointer, key: string, value: string]>;
  /** The session keeps the pointers, not copies: value and memory must outlive it. */
  AddInitializer: StatusCall<[options: Pointer, name: string, value: Pointer]>;
  DisableCpuMemArena: StatusCall<[options: Pointer]>;
  EnableProfiling: StatusCall<[options: Pointer, filePrefix: Path]>;
  /** The name of the written file, from the given allocator. */
  SessionEndProfiling: StatusCall<[session: Pointer, allocator: Pointer, out: Out]>;

  SessionGetInputCount: StatusCall<[session: Pointer, out: Out]>;
  SessionGetOutputCount: StatusCall<[session: Pointer, out: Out]>;
  /** A C string from the given allocator. */
  SessionGetInputName: StatusCall<[session: Pointer, index: number, allocator: Pointer, out: Out]>;
  SessionGetOutputName: StatusCall<[session: Pointer, index: number, allocator: Pointer, out: Out]>;
  SessionGetInputTypeInfo: StatusCall<[session: Pointer, index: number, out: Out]>;
  SessionGetOutputTypeInfo: StatusCall<[session: Pointer, index: number, out: Out]>;
  /** A view into the type info, not to be released; null when it is not a tensor. */
  CastTypeInfoToTensorInfo: StatusCall<[typeInfo: Pointer, out: Out]>;
  GetTensorElementType: StatusCall<[tensorInfo: Pointer, out: Out]>;
  GetDimensionsCount: StatusCall<[tensorInfo: Pointer, out: Out]>;
  GetDimensions: StatusCall<[tensorInfo: Pointer, out: Out, count: number]>;
  /** C strings that belong to the tensor info; empty for an extent without a name. */
  GetSymbolicDimensions: StatusCall<[tensorInfo: Pointer, out: Out, count: number]>;

  CreateCpuMemoryInfo: StatusCall<[allocatorType: number, memoryType: number, out: Out]>;
  /** One for the process; never released. */
  GetAllocatorWithDefaultOptions: StatusCall<[out: Out]>;
  AllocatorFree: StatusCall<[allocator: Pointer, memory: Pointer]>;
  /** The session's allocator on the device of the memory info. */
  CreateAllocator: StatusCall<[session: Pointer, memoryInfo: Pointer, out: Out]>;

  /** A tensor over memory of ours, which must outlive it. */
  CreateTensorWithDataAsOrtValue: StatusCall<
    [memoryInfo: Pointer, data: Pointer, bytes: number, shape: Pointer, rank: number, type: number, out: Out]
  >;
  /** A tensor with memory from the allocator, freed with it. */
  CreateTensorAsOrtValue: StatusCall<[allocator: Pointer, shape: Pointer, rank: number, type: number, out: Out]>;
  GetTensorTypeAndShape: StatusCall<[value: Pointer, out: Out]>;
  GetTensorMutableData: StatusCall<[value: Pointer, out: Out]>;

  CreateRunOptions: StatusCall<[out: Out]>;
  RunOptionsSetRunLogSeverityLevel: StatusCall<[options: Pointer, severity: number]>;
  /** Any thread, any time: the run stops before its next node. */
  RunOptionsSetTerminate: StatusCall<[options: Pointer]>;
  RunOptionsUnsetTerminate: StatusCall<[options: Pointer]>;
  CreateIoBinding: StatusCall<[session: Pointer, out: Out]>;
  BindInput: StatusCall<[binding: Pointer, name: string, value: Pointer]>;
  BindOutput: StatusCall<[binding: Pointer, name: string, value: Pointer]>;
  /** Let the runtime allocate this output, on the device of the memory info. */
  BindOutputToDevice: StatusCall<[binding: Pointer, name: string, memoryInfo: Pointer]>;
  RunWithBinding: StatusCall<[session: Pointer, runOptions: Pointer, binding: Pointer]>;
  /** An array, from the given allocator, of values in the order of binding; each to be released. */
  GetBoundOutputValues: StatusCall<[binding: Pointer, allocator: Pointer, out: Out, count: Out]>;

  ReleaseMemoryInfo: Call<[Pointer]>;
  ReleaseSession: Call<[Pointer]>;
  ReleaseValue: Call<[Pointer]>;
  ReleaseRunOptions: Call<[Pointer]>;
  ReleaseTypeInfo: Call<[Pointer]>;
  ReleaseTensorTypeAndShapeInfo: Call<[Pointer]>;
  ReleaseSessionOptions: Call<[Pointer]>;
  ReleaseAllocator: Call<[Pointer]>;
  ReleaseIoBinding: Call<[Pointer]>;
  ReleasePrepackedWeightsContainer: Call<[Pointer]>;
}

const PATH = process.platform === "win32" ? "str16" : "str";

/** Place in the table, result and parameters, in the order of `onnxruntime_c_api.h`. */
const LAYOUT: Record<keyof Api, readonly [index: number, result: "status" | "void", ...parameters: string[]]> = {
  DisableTelemetryEvents: [6, "status", "void *"],
  CreateSessionOptions: [10, "status", "void *"],
  EnableProfiling: [14, "status", "void *", PATH],
  DisableCpuMemArena: [19, "status", "void *"],
  SetSessionLogSeverityLevel: [22, "status", "void *", "int"],
  SetSessionGraphOptimizationLevel: [23, "status", "void *", "int"],
  SetIntraOpNumThreads: [24, "status", "void *", "int"],
  SetInterOpNumThreads: [25, "status", "void *", "int"],
  SessionGetInputCount: [30, "status", "void *", "void *"],
  SessionGetOutputCount: [31, "status", "void *", "void *"],
  SessionGetInputTypeInfo: [33, "status", "void *", "size_t", "void *"],
  SessionGetOutputTypeInfo: [34, "status", "void *", "size_t", "void *"],
  SessionGetInputName: [36, "status", "void *", "size_t", "void *", "void *"],
  SessionGetOutputName: [37, "status", "void *", "size_t", "void *", "void *"],
  CreateRunOptions: [39, "status", "void *"],
  RunOptionsSetRunLogSeverityLevel: [41, "status", "void *", "int"],
  RunOptionsSetTerminate: [46, "status", "void *"],
  RunOptionsUnsetTerminate: [47, "status", "void *"],
  CreateTensorAsOrtValue: [48, "status", "void *", "void *", "size_t", "int", "void *"],
  CreateTensorWithDataAsOrtValue: [49, "status", "void *", "void *", "size_t", "void *", "size_t", "int", "void *"],
  GetTensorMutableData: [51, "status", "void *", "void *"],
  CastTypeInfoToTensorInfo: [55, "status", "void *", "void *"],
  GetTensorElementType: [60, "status", "void *", "void *"],
  GetDimensionsCount: [61, "status", "void *", "void *"],
  GetDimensions: [62, "status", "void *", "void *", "size_t"],
  GetSymbolicDimensions: [63, "status", "void *", "void *", "size_t"],
  GetTensorTypeAndShape: [65, "status", "void *", "void *"],
  CreateCpuMemoryInfo: [69, "status", "int", "int", "void *"],
  AllocatorFree: [76, "status", "void *", "void *"],
  GetAllocatorWithDefaultOptions: [78, "status", "void *"],
  ReleaseMemoryInfo: [94, "void", "void *"],
  ReleaseSession: [95, "void", "void *"],
  ReleaseValue: [96, "void", "void *"],
  ReleaseRunOptions: [97, "void", "void *"],
  ReleaseTypeInfo: [98, "void", "void *"],
  ReleaseTensorTypeAndShapeInfo: [99, "void", "void *"],
  ReleaseSessionOptions: [100, "void", "void *"],
  SessionEndProfiling: [110, "status", "void *", "void *", "void *"],
  CreateEnvWithGlobalThreadPools: [119, "status", "int", "str", "void *", "void *"],
  DisablePerSessionThreads: [120, "status", "void *"],
  CreateThreadingOptions: [121, "status", "void *"],
  ReleaseThreadingOptions: [122, "void", "void *"],
  AddSessionConfigEntry: [130, "status", "void *", "str", "str"],
  CreateAllocator: [131, "status", "void *", "void *", "void *"],
  ReleaseAllocator: [132, "void", "void *"],
  RunWithBinding: [133, "status", "void *", "void *", "void *"],
  CreateIoBinding: [134, "status", "void *", "void *"],
  ReleaseIoBinding: [135, "void", "void *"],
  BindInput: [136, "status", "void *", "str", "void *"],
  BindOutput: [137, "status", "void *", "str", "void *"],
  BindOutputToDevice: [138, "status", "void *", "str", "void *"],
  GetBoundOutputValues: [140, "status", "void *", "void *", "void *", "void *"],
  SetGlobalIntraOpNumThreads: [147, "status", "void *", "int"],
  SetGlobalInterOpNumThreads: [148, "status", "void *", "int"],
  SetGlobalSpinControl: [149, "status", "void *", "int"],
  AddInitializer: [150, "status", "void *", "str", "void *"],
  CreatePrepackedWeightsContainer: [166, "status", "void *"],
  ReleasePrepackedWeightsContainer: [167, "void", "void *"],
  CreateSessionWithPrepackedWeightsContainer: [168, "status", "void *", PATH, "void *", "void *", "void *"],
  CreateSessionFromArrayWithPrepackedWeightsContainer: [
    169,
    "status",
    "void *",
    "void *",
    "size_t",
    "void *",
    "void *",
    "void *",
  ],
};

/** What reads and releases a status: these return no status themselves. */
const GET_ERROR_CODE = 1;
const GET_ERROR_MESSAGE = 2;
const RELEASE_STATUS = 93;

type NativeFunction = {
  (...args: unknown[]): unknown;
  async(...args: unknown[]): void;
};

/** Load the library and read its table of functions. */
export function loadApi(): { api: Api; version: string } {
  const path = libraryPath();
  const base = loadLibrary(path).func("OrtGetApiBase", "void *", [])() as Pointer;
  const [getApi, getVersion] = addresses(base, 2);
  const version = nativeFunction(getVersion, "str", [])() as string;
  const table = nativeFunction(getApi, "void *", ["uint32_t"])(API_VERSION) as Pointer | null;
  if (table === null) {
    throw new OnnxRuntimeError(
      "LIBRARY_NOT_FOUND",
      `${path} is ONNX Runtime ${version}, which does not have version ${API_VERSION} of the C API`,
    );
  }
  const entries = addresses(table, TABLE_ENTRIES);
  const takeError = statusReader(entries);
  const api = Object.fromEntries(
    Object.entries(LAYOUT).map(([name, [index, result, ...parameters]]) => [
      name,
      result === "void"
        ? nativeFunction(entries[index], "void", parameters)
        : statusCall(nativeFunction(entries[index], "void *", parameters), takeError),
    ]),
  ) as unknown as Api;
  return { api, version };
}

function addresses(table: Pointer, count: number): BigUint64Array {
  return koffi.decode(table, "uint64_t", count) as BigUint64Array;
}

function nativeFunction(address: Pointer | undefined, result: string, parameters: string[]): NativeFunction {
  return koffi.decode(address, koffi.proto(result, parameters)) as NativeFunction;
}

/** Turns a status into an error and releases it. */
function statusReader(entries: BigUint64Array): (status: Pointer) => OnnxRuntimeError {
  const getCode = nativeFunction(entries[GET_ERROR_CODE], "int", ["void *"]);
  const getMessage = nativeFunction(entries[GET_ERROR_MESSAGE], "str", ["void *"]);
  const release = nativeFunction(entries[RELEASE_STATUS], "void", ["void *"]);
  return (status) => {
    const error = fromNative(getCode(status) as number, getMessage(status) as string);
    release(status);
    return error;
  };
}

function statusCall(native: NativeFunction, takeError: (status: Pointer) => OnnxRuntimeError): StatusCall<unknown[]> {
  const call = (...args: unknown[]): void => {
    const status = native(...args) as Pointer | null;
    if (status !== null) throw takeError(status);
  };
  const async = (...args: [...unknown[], (error: OnnxRuntimeError | null) => void]): void => {
    const done = args.pop() as (error: OnnxRuntimeError | null) => void;
    try {
      native.async(...args, (_: unknown, status: Pointer | null) => done(status === null ? null : takeError(status)));
    } catch (cause) {
      // The arguments are ours, so what koffi refuses here is one call more than it queues (`max_async_calls`).
      throw new OnnxRuntimeError("BUSY", `the call cannot be queued: ${(cause as Error).message}`, { cause });
    }
  };
  return Object.assign(call, { async });
}
