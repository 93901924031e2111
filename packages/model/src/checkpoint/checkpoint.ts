import { CheckpointError } from "../errors.ts";
import { checkTensors } from "./check-tensors.ts";
import { CheckpointFiles } from "./checkpoint-files.ts";
import { type CheckpointConfig, type ConfigOptions, parseConfig } from "./config.ts";
import { convertToFloat32, ELEMENT_BYTES } from "./element-types.ts";
import { refuseOtherFormats } from "./other-formats.ts";
import { quote } from "./quote.ts";
import { scanTensor, type TensorSource } from "./tensor-source.ts";
import { refuseUntiedHead } from "./tied-head.ts";
import { WeightFiles } from "./weight-files.ts";

/** A tensor as the model checksum sees it. */
export interface TensorDigest {
  readonly name: string;
  /** The safetensors name of the element type. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** sha256 of the tensor's bytes, hexadecimal. */
  readonly sha256: string;
}

export interface OpenCheckpointOptions extends ConfigOptions {
  readonly signal?: AbortSignal;
}

/**
 * A Hugging Face checkpoint directory that has been checked against its own config: the tensors are exactly those the
 * architecture needs, in the right shapes.
 *
 * Memory does not depend on the size of the weights. The digest of a tensor is kept from its first reading, here or
 * elsewhere ({@link Checkpoint.record}); a second reading must give the same.
 */
export class Checkpoint {
  readonly files: CheckpointFiles;
  readonly config: CheckpointConfig;
  /** The tensors that the model needs, in the order the architecture lists them. */
  readonly tensors: ReadonlyMap<string, TensorSource>;
  /** Bytes of all of them. */
  readonly tensorBytes: number;
  readonly #weights: WeightFiles;
  readonly #digests = new Map<string, string>();

  private constructor(
    files: CheckpointFiles,
    config: CheckpointConfig,
    weights: WeightFiles,
    tensors: ReadonlyMap<string, TensorSource>,
  ) {
    this.files = files;
    this.config = config;
    this.tensors = tensors;
    this.tensorBytes = tensors.values().reduce((sum, { byteLength }) => sum + byteLength, 0);
    this.#weights = weights;
  }

  /**
   * Read the config and the headers of the weights; of the weights themselves only a tied head that is there all the same.
   *
   * @throws CheckpointError naming the file, field or tensor that stops the import
   */
  static async open(directory: string, options: OpenCheckpointOptions = {}): Promise<Checkpoint> {
    const files = await CheckpointFiles.open(directory);
    const json = await files.readObject("config.json");
    if (json === undefined) return refuseOtherFormats(files, "config.json");
    const config = parseConfig(json, await files.readObject("generation_config.json"), options);
    const weights = await WeightFiles.open(files);
    try {
      const tensors = checkTensors(config, weights.tensors);
      if (config.spec.tiedEmbeddings) await refuseUntiedHead(weights, options.signal);
      return new Checkpoint(files, config, weights, tensors);
    } catch (error) {
      await weights.close();
      throw error;
    }
  }

  /** Where a tensor of the model lies, for readers of their own; they hand in what they read to {@link record}. */
  tensor(name: string): TensorSource {
    const tensor = this.tensors.get(name);
    if (tensor === undefined) throw new Error(`${name} is not a tensor of this model`);
    return tensor;
  }

  /**
   * Values of one tensor, each a finite number.
   *
   * @returns a new float32 array in row-major order, owned by the caller
   * @throws CheckpointError CHECKPOINT_NOT_FINITE at the first NaN or infinity, CHECKPOINT_CORRUPT when the file changed
   */
  async read(name: string, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
    const tensor = this.tensor(name);
    const values = new Float32Array(tensor.byteLength / ELEMENT_BYTES[tensor.dtype]);
    await this.#scan(tensor, signal, (bytes, element) => convertToFloat32(tensor.dtype, bytes, values, element));
    return values;
  }

  /**
   * Keep the digest of a tensor that was read elsewhere, from its first to its last byte.
   *
   * @param sha256 - of the bytes in the file, hexadecimal
   * @throws CheckpointError CHECKPOINT_CORRUPT when an earlier reading gave other bytes
   */
  record(name: string, sha256: string): void {
    const known = this.#digests.get(this.tensor(name).name);
    if (known !== undefined && known !== sha256) {
      throw new CheckpointError("CHECKPOINT_CORRUPT", `tensor ${quote(name)} changed while it was being imported`);
    }
    this.#digests.set(name, sha256);
  }

  /**
   * Digests of all tensors, sorted by name; reads those that have not been read yet.
   *
   * @throws CheckpointError as {@link read}, also when a file has been changed since the checkpoint was opened
   */
  async digests(options: { signal?: AbortSignal; onBytes?: (bytes: number) => void } = {}): Promise<TensorDigest[]> {
    for (const tensor of this.tensors.values()) {
      if (this.#digests.has(tensor.name)) continue;
      await this.#scan(tensor, options.signal);
      options.onBytes?.(tensor.byteLength);
    }
    await this.#weights.refuseChange();
    return [...this.tensors.values()]
      .map(({ name, dtype, shape }) => ({ name, dtype, shape, sha256: this.#digests.get(name) as string }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async #scan(tensor: TensorSource, signal?: AbortSignal, visit?: Parameters<typeof scanTensor>[2]): Promise<void> {
    this.record(tensor.name, await scanTensor(this.#weights.handle(tensor.path), tensor, visit, signal));
  }

  async close(): Promise<void> {
    await this.#weights.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
