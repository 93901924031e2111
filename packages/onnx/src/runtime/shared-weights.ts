import koffi from "koffi";
import { elementTypeInfo } from "./element-type.ts";
import { environment, out } from "./environment.ts";
import { OnnxRuntimeError } from "./error.ts";
import { entriesOfGraph } from "./graph-initializers.ts";
import { Handle } from "./handle.ts";
import { libC } from "./lib-c.ts";
import type { Pointer } from "./library.ts";
import { MappedFile } from "./mapped-file.ts";
import { byteLength, describe, nativeShape } from "./tensor.ts";
import { WEIGHT_ALIGNMENT, type WeightEntry } from "./weight-entry.ts";

/**
 * One copy of a model's weights for any number of sessions.
 *
 * The file is mapped, and its tensors take the place of the graphs' initializers of the same name, which must agree with
 * them in type, number of elements and offset; a graph's external data must name a file that is there, normally this one. Kernels that work on
 * a rearranged ("prepacked") form keep it in one container that all sessions share. So private memory holds the
 * prepacked weights once, whatever the number of graphs. Weights that a graph optimizer rewrites (fuses, transposes)
 * cannot be shared; each session then holds its own.
 *
 * `close()` is idempotent and takes effect at once for new sessions; memory is given back when the last session over it
 * has closed.
 */
export class SharedWeights implements Disposable {
  readonly entries: readonly WeightEntry[];
  /** Size of the file. */
  readonly byteLength: number;
  /** Internal to the runtime package. */
  readonly handle: Handle;
  readonly #file: MappedFile;
  readonly #byName: ReadonlyMap<string, WeightEntry>;
  /** By {@link viewKey}. */
  readonly #values: Map<string, Pointer>;
  readonly #container: Pointer;

  /**
   * @param path - the raw file; must not be truncated while it is open (replace it by rename)
   * @throws OnnxRuntimeError NO_SUCH_FILE, INVALID_WEIGHTS when an entry does not fit the file or its own shape,
   * UNSUPPORTED_PLATFORM on Windows
   */
  static open(path: string, entries: readonly WeightEntry[]): SharedWeights {
    const file = new MappedFile(path);
    try {
      checkEntries(file, entries);
      return new SharedWeights(file, entries);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  private constructor(file: MappedFile, entries: readonly WeightEntry[]) {
    const { api } = environment();
    const values = new Map<string, Pointer>();
    try {
      for (const entry of entries) values.set(viewKey(entry), mappedValue(file, entry));
      this.#container = out((address) => api.CreatePrepackedWeightsContainer(address));
    } catch (error) {
      for (const value of values.values()) api.ReleaseValue(value);
      throw error;
    }
    this.entries = entries.map((entry) => ({ ...entry, shape: [...entry.shape] }));
    this.byteLength = file.byteLength;
    this.#file = file;
    this.#byName = new Map(this.entries.map((entry) => [entry.name, entry]));
    this.#values = values;
    this.handle = new Handle(`weights of ${file.path}`, () => {
      api.ReleasePrepackedWeightsContainer(this.#container);
      for (const value of values.values()) api.ReleaseValue(value);
      file.close();
      libC().mallocTrim?.(0);
    });
  }

  /**
   * Internal: put the tensors that a graph declares into the options of its new session, which must retain
   * {@link handle} as long as it lives.
   *
   * @returns the container of prepacked weights
   * @throws OnnxRuntimeError USE_AFTER_CLOSE, INVALID_WEIGHTS when graph and weights disagree, NO_SUCH_FILE,
   * INVALID_PROTOBUF
   */
  attach(sessionOptions: Pointer, source: string | Uint8Array): Pointer {
    this.handle.check();
    const { api } = environment();
    for (const entry of entriesOfGraph(source, this.#byName)) {
      api.AddInitializer(sessionOptions, entry.name, this.#value(entry));
    }
    return this.#container;
  }

  /** An entry in a shape of a graph; made once for each shape. */
  #value(view: WeightEntry): Pointer {
    const key = viewKey(view);
    const value = this.#values.get(key) ?? mappedValue(this.#file, view);
    this.#values.set(key, value);
    return value;
  }

  /**
   * Give memory back after the sessions were built. Pages of the file leave this process: what was prepacked is not read
   * again, what is read as it is (embeddings) comes back from the page cache at its next use. So does what the heap kept:
   * a session first prepacks each weight, then finds that the container has it (measured: 180 MB for 96 MB of weights in
   * five sessions).
   */
  adviseUnneeded(): void {
    this.handle.check();
    this.#file.adviseUnneeded();
    libC().mallocTrim?.(0);
  }

  close(): void {
    this.handle.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function viewKey({ name, shape }: WeightEntry): string {
  return `${name}[${shape.join()}]`;
}

function mappedValue(file: MappedFile, entry: WeightEntry): Pointer {
  const { api, cpuMemory } = environment();
  const dims = nativeShape(entry.shape);
  return out((address) =>
    api.CreateTensorWithDataAsOrtValue(
      cpuMemory,
      file.address + BigInt(entry.offset),
      entry.byteLength,
      koffi.address(dims),
      entry.shape.length,
      elementTypeInfo(entry.type).code,
      address,
    ),
  );
}

function checkEntries(file: MappedFile, entries: readonly WeightEntry[]): void {
  const seen = new Set<string>();
  for (const entry of entries) {
    const problem = seen.has(entry.name) ? "is listed twice" : entryProblem(file, entry);
    if (problem !== undefined) {
      throw new OnnxRuntimeError("INVALID_WEIGHTS", `${file.path}: "${entry.name}" (${describe(entry)}) ${problem}`);
    }
    seen.add(entry.name);
  }
}

function entryProblem(file: MappedFile, entry: WeightEntry): string | undefined {
  const expected = byteLength(entry);
  if (entry.byteLength !== expected) return `has ${entry.byteLength} bytes, its shape needs ${expected}`;
  if (!Number.isSafeInteger(entry.offset) || entry.offset < 0) return `begins at ${entry.offset}`;
  if (entry.offset % WEIGHT_ALIGNMENT !== 0) {
    return `begins at ${entry.offset}, which is not a multiple of ${WEIGHT_ALIGNMENT}`;
  }
  if (entry.offset + entry.byteLength > file.byteLength) {
    return `ends at ${entry.offset + entry.byteLength}, after the file's ${file.byteLength} bytes`;
  }
  return undefined;
}
