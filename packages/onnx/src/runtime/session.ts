import { Binding, type BindingTensors } from "./binding.ts";
import { CpuDevice, type Device } from "./device.ts";
import { environment, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import { Handle } from "./handle.ts";
import type { Pointer } from "./library.ts";
import { type ModelSource, SessionLoading } from "./session-loading.ts";
import type { SessionOptions } from "./session-options.ts";
import type { HostTensor, Tensor } from "./tensor.ts";
import { readValueInfos, takeString, type ValueInfo } from "./value-info.ts";

export interface RunOptions {
  /** Ends the run before its next operator; the promise then rejects with CANCELLED. */
  readonly signal?: AbortSignal;
}

/**
 * A graph made ready to run.
 *
 * Asynchronous calls occupy one thread of libuv's pool each (`UV_THREADPOOL_SIZE`, 4 by default, shared with files and
 * DNS); more of them wait their turn. Runs of one session may overlap, each with a binding of its own.
 *
 * `close()` is idempotent, takes effect at once for new calls, and closes the session's bindings. It does not disturb a
 * run in flight: native resources are freed when the last run has ended and the tensors of {@link device} are closed.
 */
export class Session implements Disposable {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /** Internal to the runtime package. */
  readonly handle: Handle;
  /** Internal to the runtime package. */
  readonly pointer: Pointer;
  readonly #bindings = new Set<Binding>();
  #device: CpuDevice | undefined;

  /**
   * Load a graph without blocking this thread.
   *
   * @throws OnnxRuntimeError NO_SUCH_FILE, INVALID_PROTOBUF for a file that is no ONNX model, INVALID_GRAPH or
   * INVALID_ARGUMENT for one that does not hold together, NOT_IMPLEMENTED for operators and types that the provider lacks, UNSUPPORTED_PROVIDER,
   * INVALID_ARGUMENT, USE_AFTER_CLOSE for closed weights
   */
  static async load(source: ModelSource, options: SessionOptions = {}): Promise<Session> {
    const loading = new SessionLoading(source, options);
    try {
      await loading.run();
      return new Session(loading);
    } finally {
      loading.end();
    }
  }

  /** {@link load} on this thread. */
  static loadSync(source: ModelSource, options: SessionOptions = {}): Session {
    const loading = new SessionLoading(source, options);
    try {
      loading.runSync();
      return new Session(loading);
    } finally {
      loading.end();
    }
  }

  private constructor(loading: SessionLoading) {
    const { pointer, free } = loading.take();
    try {
      this.inputs = readValueInfos(pointer, "input");
      this.outputs = readValueInfos(pointer, "output");
    } catch (error) {
      free();
      throw error;
    }
    this.pointer = pointer;
    this.handle = new Handle(`session of ${loading.name}`, free);
  }

  /**
   * Prepare a run. Types and shapes are checked here; extents that the graph leaves open are the caller's to keep equal.
   *
   * @throws OnnxRuntimeError INVALID_ARGUMENT for a missing, unknown or ill-fitting input or output, USE_AFTER_CLOSE
   */
  bind(tensors: BindingTensors): Binding {
    const binding = new Binding(this, tensors);
    this.#bindings.add(binding);
    return binding;
  }

  /**
   * Run on another thread. The tensors of the binding must not be touched until the promise settles.
   *
   * @throws OnnxRuntimeError (by rejection) CANCELLED when `signal` fires before the end, after which the outputs are
   * undefined and binding and session can be used again; BUSY when the binding is running, or when 256
   * calls are under way; USE_AFTER_CLOSE; what the runtime reports otherwise
   */
  run(binding: Binding, { signal }: RunOptions = {}): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#check(binding);
      if (signal?.aborted) throw cancelled(signal);
      const { api } = environment();
      const { ioBinding, runOptions } = binding.begin();
      const cancel = () => api.RunOptionsSetTerminate(runOptions);
      const settle = (error: Error | null) => {
        if (signal !== undefined) {
          signal.removeEventListener("abort", cancel);
          if (signal.aborted) api.RunOptionsUnsetTerminate(runOptions);
        }
        const outcome = signal?.aborted ? cancelled(signal) : error;
        binding.end(outcome === null);
        if (outcome === null) resolve();
        else reject(outcome);
      };
      signal?.addEventListener("abort", cancel, { once: true });
      try {
        api.RunWithBinding.async(this.pointer, runOptions, ioBinding, settle);
      } catch (error) {
        settle(error as Error);
      }
    });
  }

  /** Run on this thread. @throws as {@link run}, less CANCELLED */
  runSync(binding: Binding): void {
    this.#check(binding);
    const { ioBinding, runOptions } = binding.begin();
    let succeeded = false;
    try {
      environment().api.RunWithBinding(this.pointer, runOptions, ioBinding);
      succeeded = true;
    } finally {
      binding.end(succeeded);
    }
  }

  /**
   * Run once and copy the outputs out. Convenient, and slower than a binding.
   *
   * @param outputs - names of the outputs to fetch, all by default
   */
  async runAllocating<Name extends string = string>(
    inputs: Readonly<Record<string, Tensor>>,
    outputs: readonly Name[] = this.outputs.map(({ name }) => name as Name),
    options: RunOptions = {},
  ): Promise<Record<Name, HostTensor>> {
    using binding = this.bind({ inputs, outputs: Object.fromEntries(outputs.map((name) => [name, null])) });
    await this.run(binding, options);
    return Object.fromEntries(outputs.map((name) => [name, binding.read(name)])) as Record<Name, HostTensor>;
  }

  /** Memory where this session computes. */
  get device(): Device {
    this.handle.check();
    this.#device ??= new CpuDevice(this.pointer, this.handle);
    return this.#device;
  }

  /** Finish the profile asked for by `profilePrefix`. @returns path of the file (Chrome trace format) */
  endProfiling(): string {
    this.handle.check();
    const { api, allocator } = environment();
    return takeString(out((address) => api.SessionEndProfiling(this.pointer, allocator, address)));
  }

  get closed(): boolean {
    return this.handle.closed;
  }

  close(): void {
    this.handle.close();
    for (const binding of this.#bindings) binding.close();
    this.#device?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Internal: called by a binding that closes. */
  forget(binding: Binding): void {
    this.#bindings.delete(binding);
  }

  #check(binding: Binding): void {
    this.handle.check();
    if (!binding.belongsTo(this)) {
      throw new OnnxRuntimeError("INVALID_ARGUMENT", "the binding belongs to another session");
    }
  }
}

function cancelled(signal: AbortSignal): OnnxRuntimeError {
  return new OnnxRuntimeError("CANCELLED", "the run was cancelled", { cause: signal.reason });
}
