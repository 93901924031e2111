import { copyBoundOutput } from "./bound-outputs.ts";
import { environment, LOG_SEVERITY, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import { Handle } from "./handle.ts";
import type { Pointer } from "./library.ts";
import { describe, type HostTensor, type Tensor } from "./tensor.ts";
import type { ValueInfo } from "./value-info.ts";

/** Which tensors a run reads and writes. */
export interface BindingTensors {
  /** A tensor for every input of the graph. */
  readonly inputs: Readonly<Record<string, Tensor>>;
  /**
   * A tensor to write in place, or null to let the runtime allocate one, which {@link Binding.read} then gives.
   * An output that is not named is not fetched. A tensor may be input and output at once.
   */
  readonly outputs: Readonly<Record<string, Tensor | null>>;
}

/** What a binding needs of its session. */
interface BoundSession {
  readonly pointer: Pointer;
  readonly handle: Handle;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /** Told when the binding is closed. */
  forget(binding: Binding): void;
}

/**
 * Everything of a run that stays the same from one to the next, handed to the runtime once: a run then marshals three
 * pointers, whatever the number of inputs and outputs.
 *
 * One run at a time. `close()` is idempotent; a run in flight goes on to its end first.
 */
export class Binding implements Disposable {
  readonly #session: BoundSession;
  readonly #handle: Handle;
  readonly #ioBinding: Pointer;
  readonly #runOptions: Pointer;
  readonly #tensors: readonly Tensor[];
  readonly #outputs: readonly { readonly name: string; readonly tensor: Tensor | null }[];
  #state: "unrun" | "running" | "ran" | "failed" = "unrun";

  /** Internal: use `Session.bind`. */
  constructor(session: BoundSession, tensors: BindingTensors) {
    const { api } = environment();
    const inputs = checkInputs(session.inputs, tensors.inputs);
    const outputs = checkOutputs(session.outputs, tensors.outputs);
    this.#session = session;
    this.#outputs = outputs;
    this.#tensors = [...inputs, ...outputs].flatMap(({ tensor }) => tensor ?? []);
    for (const tensor of this.#tensors) tensor.handle.check();
    session.handle.check();

    this.#ioBinding = out((address) => api.CreateIoBinding(session.pointer, address));
    try {
      for (const { name, tensor } of inputs) api.BindInput(this.#ioBinding, name, tensor.value);
      for (const { name, tensor } of outputs) this.#bindOutput(name, tensor);
      this.#runOptions = createRunOptions();
    } catch (error) {
      api.ReleaseIoBinding(this.#ioBinding);
      throw error;
    }

    session.handle.retain();
    for (const tensor of this.#tensors) tensor.handle.retain();
    this.#handle = new Handle("binding", () => {
      api.ReleaseRunOptions(this.#runOptions);
      api.ReleaseIoBinding(this.#ioBinding);
      for (const tensor of this.#tensors) tensor.handle.release();
      session.handle.release();
    });
  }

  /**
   * A copy of an output of the last run, wherever it lies.
   *
   * @throws OnnxRuntimeError NOT_FOUND for an output that is not bound, BUSY during a run, INVALID_ARGUMENT before the
   * first run and after one that failed, USE_AFTER_CLOSE
   */
  read(name: string): HostTensor {
    this.#handle.check();
    const index = this.#outputs.findIndex((output) => output.name === name);
    if (index < 0) throw new OnnxRuntimeError("NOT_FOUND", `the binding has no output "${name}"`);
    if (this.#state === "running") throw new OnnxRuntimeError("BUSY", "the binding is running");
    if (this.#state !== "ran") {
      throw new OnnxRuntimeError("INVALID_ARGUMENT", `there is no output "${name}" before a run that succeeded`);
    }
    return copyBoundOutput(this.#ioBinding, index);
  }

  get closed(): boolean {
    return this.#handle.closed;
  }

  close(): void {
    this.#handle.close();
    this.#session.forget(this);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** Internal: whether `session` made this binding. */
  belongsTo(session: BoundSession): boolean {
    return this.#session === session;
  }

  /**
   * Internal: claim the binding for a run; {@link end} must follow.
   *
   * @throws OnnxRuntimeError BUSY, USE_AFTER_CLOSE (also for a tensor whose array was transferred away)
   */
  begin(): { readonly ioBinding: Pointer; readonly runOptions: Pointer } {
    this.#handle.check();
    if (this.#state === "running") {
      throw new OnnxRuntimeError("BUSY", "the binding is running; make one binding for each run at a time");
    }
    for (const tensor of this.#tensors) {
      if (tensor.data !== null && tensor.data.byteLength !== tensor.byteLength) {
        throw new OnnxRuntimeError("USE_AFTER_CLOSE", `the array of a ${describe(tensor)} tensor was transferred away`);
      }
    }
    for (const { name, tensor } of this.#outputs) {
      // The runtime would take what it allocated last time for a tensor of ours, of a fixed shape.
      if (tensor === null && this.#state !== "unrun") this.#bindOutput(name, null);
    }
    this.#handle.retain();
    this.#state = "running";
    return { ioBinding: this.#ioBinding, runOptions: this.#runOptions };
  }

  /** Internal. */
  end(succeeded: boolean): void {
    this.#state = succeeded ? "ran" : "failed";
    this.#handle.release();
  }

  #bindOutput(name: string, tensor: Tensor | null): void {
    const { api, cpuMemory } = environment();
    if (tensor === null) api.BindOutputToDevice(this.#ioBinding, name, cpuMemory);
    else api.BindOutput(this.#ioBinding, name, tensor.value);
  }
}

function createRunOptions(): Pointer {
  const { api } = environment();
  const options = out((address) => api.CreateRunOptions(address));
  // A run that fails says so by its error; the log would only say it twice.
  api.RunOptionsSetRunLogSeverityLevel(options, LOG_SEVERITY.fatal);
  return options;
}

function checkInputs(declared: readonly ValueInfo[], given: Readonly<Record<string, Tensor>>) {
  checkNames("input", declared, given);
  return declared.map((info) => {
    const tensor = given[info.name];
    if (tensor === undefined) {
      throw new OnnxRuntimeError("INVALID_ARGUMENT", `input "${info.name}" (${describe(info)}) is missing`);
    }
    checkTensor("input", info, tensor);
    return { name: info.name, tensor };
  });
}

function checkOutputs(declared: readonly ValueInfo[], given: Readonly<Record<string, Tensor | null>>) {
  checkNames("output", declared, given);
  const outputs = declared.flatMap((info) => {
    const tensor = given[info.name];
    if (tensor === undefined) return [];
    if (tensor !== null) checkTensor("output", info, tensor);
    return { name: info.name, tensor };
  });
  if (outputs.length === 0) throw new OnnxRuntimeError("INVALID_ARGUMENT", "a binding needs at least one output");
  return outputs;
}

function checkNames(direction: string, declared: readonly ValueInfo[], given: Readonly<Record<string, unknown>>): void {
  const names = new Set(declared.map(({ name }) => name));
  for (const name of Object.keys(given)) {
    if (names.has(name)) continue;
    throw new OnnxRuntimeError(
      "INVALID_ARGUMENT",
      `the graph has no ${direction} "${name}"; it has ${[...names].join(", ")}`,
    );
  }
}

function checkTensor(direction: string, info: ValueInfo, tensor: Tensor): void {
  const fits =
    tensor.type === info.type &&
    tensor.shape.length === info.shape.length &&
    info.shape.every((extent, axis) => typeof extent !== "number" || extent === tensor.shape[axis]);
  if (fits) return;
  throw new OnnxRuntimeError(
    "INVALID_ARGUMENT",
    `${direction} "${info.name}" is ${describe(info)}, the tensor is ${describe(tensor)}`,
  );
}
