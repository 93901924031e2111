import type { FileHandle } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import type { CheckpointFiles } from "./checkpoint-files.ts";
import { refuseOtherFormats } from "./other-formats.ts";
import { quote } from "./quote.ts";
import { SafetensorsFile } from "./safetensors.ts";
import type { TensorEntry } from "./safetensors-header.ts";
import { parseShardIndex } from "./shard-index.ts";

const SINGLE_FILE = "model.safetensors";
const SHARD_INDEX = "model.safetensors.index.json";

/** The deepest decoder that is supported has 17,000 tensors, which take 2 MB. */
const INDEX_LIMITS = { maxBytes: 16 * 1024 * 1024, maxValues: 200_000 };

/** Where a tensor lies among the files of a checkpoint. */
export interface PlacedTensor extends TensorEntry {
  readonly path: string;
  readonly file: string;
}

/**
 * The safetensors files of a checkpoint: one, or shards with an index.
 *
 * Only headers are read, whatever the size of the files. Owns the file handles; `close` it.
 */
export class WeightFiles {
  /** All tensors of all files, by name. */
  readonly tensors: ReadonlyMap<string, PlacedTensor>;
  readonly #files: ReadonlyMap<string, SafetensorsFile>;

  private constructor(files: readonly SafetensorsFile[], tensors: ReadonlyMap<string, PlacedTensor>) {
    this.#files = new Map(files.map((file) => [file.path, file]));
    this.tensors = tensors;
  }

  /**
   * As transformers does, `model.safetensors` is taken where it is there, else the files that the index names. An index
   * beside it must not say anything else.
   *
   * @throws CheckpointError CHECKPOINT_NOT_FOUND, CHECKPOINT_CORRUPT, CHECKPOINT_UNSAFE_PATH, CHECKPOINT_UNSUPPORTED
   */
  static async open(checkpoint: CheckpointFiles): Promise<WeightFiles> {
    const single = await checkpoint.find(SINGLE_FILE);
    const index = await checkpoint.readObject(SHARD_INDEX, INDEX_LIMITS);
    if (single === undefined && index === undefined) await refuseOtherFormats(checkpoint, SINGLE_FILE);
    const shards = index && parseShardIndex(index, SHARD_INDEX);
    const names = shards === undefined ? [SINGLE_FILE] : [...shards.keys()];
    if (single !== undefined && names.join() !== SINGLE_FILE) {
      throw new CheckpointError(
        "CHECKPOINT_CORRUPT",
        `${quote(SHARD_INDEX)} places tensors in other files than ${quote(SINGLE_FILE)}, which is there too. ` +
          "Remove the one that is not the model.",
      );
    }
    const files: SafetensorsFile[] = [];
    try {
      const tensors = new Map<string, PlacedTensor>();
      for (const name of names) {
        const file = await SafetensorsFile.open(single ?? (await checkpoint.require(name)), name);
        files.push(file);
        if (shards !== undefined) compareWithIndex(file, shards.get(name) as ReadonlySet<string>);
        for (const entry of file.tensors) tensors.set(entry.name, { ...entry, path: file.path, file: name });
      }
      return new WeightFiles(files, tensors);
    } catch (error) {
      for (const file of files) await file.close();
      throw error;
    }
  }

  /** For reading from the file at `path`, one of those that tensors lie in; stays owned by this object. */
  handle(path: string): FileHandle {
    const file = this.#files.get(path);
    if (file === undefined) throw new Error(`${path} is not a file of this checkpoint`);
    return file.handle;
  }

  /** @throws CheckpointError CHECKPOINT_CORRUPT when a file has been changed since it was opened */
  async refuseChange(): Promise<void> {
    for (const file of this.#files.values()) await file.refuseChange();
  }

  async close(): Promise<void> {
    for (const file of this.#files.values()) await file.close();
  }
}

/** An index names each tensor once, so a file that holds exactly its share holds no tensor of another file. */
function compareWithIndex(file: SafetensorsFile, placed: ReadonlySet<string>): void {
  const held = new Set(file.tensors.map(({ name }) => name));
  const difference = (what: string) =>
    new CheckpointError("CHECKPOINT_CORRUPT", `${quote(SHARD_INDEX)} and ${quote(file.name)} disagree: ${what}`);
  for (const name of placed) {
    if (!held.has(name)) throw difference(`tensor ${quote(name)} is placed in the file and is not there`);
  }
  for (const name of held) {
    if (!placed.has(name)) throw difference(`tensor ${quote(name)} is there and is not placed in the file`);
  }
}
