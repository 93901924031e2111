import { createHash } from "node:crypto";
import { CheckpointError } from "../errors.ts";
import { CheckpointFiles } from "./checkpoint-files.ts";
import { type CheckpointConfig, parseConfig } from "./config.ts";
import { expectedTensors, isRecomputedTensor } from "./expected-tensors.ts";
import { SafetensorsFile } from "./safetensors.ts";

const WEIGHTS_FILE = "model.safetensors";
const SHARD_INDEX = "model.safetensors.index.json";

const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";

/** A tensor as the model checksum sees it. */
export interface TensorDigest {
  readonly name: string;
  /** The safetensors name of the element type. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** sha256 of the tensor's bytes, hexadecimal. */
  readonly sha256: string;
}

/**
 * A Hugging Face checkpoint directory that has been checked against its own config: the tensors are exactly those the
 * architecture needs, in the right shapes.
 *
 * Tensors are read one at a time; the digest of each is kept from its first reading.
 */
export class Checkpoint {
  readonly files: CheckpointFiles;
  readonly config: CheckpointConfig;
  /** Names of the tensors that the model needs, in the order the architecture lists them. */
  readonly tensorNames: readonly string[];
  /** Bytes of all of them. */
  readonly tensorBytes: number;
  readonly #weights: SafetensorsFile;
  readonly #digests = new Map<string, TensorDigest>();

  private constructor(files: CheckpointFiles, config: CheckpointConfig, weights: SafetensorsFile, names: string[]) {
    this.files = files;
    this.config = config;
    this.tensorNames = names;
    this.tensorBytes = names.reduce((sum, name) => sum + (weights.tensors.get(name)?.byteLength ?? 0), 0);
    this.#weights = weights;
  }

  /**
   * @throws CheckpointError naming the file, field or tensor that stops the import
   */
  static async open(directory: string): Promise<Checkpoint> {
    const files = await CheckpointFiles.open(directory);
    const json = await files.readObject("config.json");
    if (json === undefined) {
      throw new CheckpointError("CHECKPOINT_NOT_FOUND", `the checkpoint has no "config.json"`);
    }
    const config = parseConfig(json, await files.readObject("generation_config.json"));
    if ((await files.find(WEIGHTS_FILE)) === undefined && (await files.find(SHARD_INDEX)) !== undefined) {
      throw new CheckpointError(
        "CHECKPOINT_UNSUPPORTED",
        `weights in shards ("${SHARD_INDEX}") are not supported; supported: one "${WEIGHTS_FILE}"`,
      );
    }
    const weights = await SafetensorsFile.open(await files.openRequired(WEIGHTS_FILE), WEIGHTS_FILE);
    try {
      const checkpoint = new Checkpoint(files, config, weights, checkTensors(config, weights));
      await checkpoint.#checkTiedHead();
      return checkpoint;
    } catch (error) {
      await weights.close();
      throw error;
    }
  }

  /**
   * Values of one tensor, each a finite number.
   *
   * @returns a new float32 array in row-major order, owned by the caller
   * @throws CheckpointError CHECKPOINT_NOT_FINITE at the first NaN or infinity
   */
  async read(name: string, signal?: AbortSignal): Promise<Float32Array<ArrayBuffer>> {
    const values = await this.#weights.readFloat32(name, signal);
    const known = this.#digests.get(name);
    const sha256 = createHash("sha256").update(values).digest("hex");
    if (known !== undefined) {
      if (known.sha256 !== sha256) {
        throw new CheckpointError("CHECKPOINT_CORRUPT", `tensor "${name}" changed while it was being imported`);
      }
      return values;
    }
    refuseNonFinite(name, values);
    const entry = this.#weights.tensors.get(name);
    if (entry === undefined) throw new Error(`tensor ${name} was read but is not listed`);
    this.#digests.set(name, { name, dtype: entry.dtype, shape: entry.shape, sha256 });
    return values;
  }

  /** Digests of all tensors, sorted by name; reads those that have not been read yet. */
  async digests(options: { signal?: AbortSignal; onBytes?: (bytes: number) => void } = {}): Promise<TensorDigest[]> {
    for (const name of this.tensorNames) {
      if (this.#digests.has(name)) continue;
      const values = await this.read(name, options.signal);
      options.onBytes?.(values.byteLength);
    }
    return [...this.#digests.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /**
   * Some tools save the output head beside the embedding that it is tied to. It may be left out if it says the same.
   */
  async #checkTiedHead(): Promise<void> {
    if (!this.config.spec.tiedEmbeddings || !this.#weights.tensors.has(HEAD)) return;
    await this.read(EMBEDDING);
    const head = createHash("sha256")
      .update(await this.#weights.readFloat32(HEAD))
      .digest("hex");
    if (head !== this.#digests.get(EMBEDDING)?.sha256) {
      throw new CheckpointError(
        "CHECKPOINT_TENSOR_MISMATCH",
        `"${WEIGHTS_FILE}": tensor "${HEAD}" differs from "${EMBEDDING}", to which config.json ties it`,
      );
    }
  }

  async close(): Promise<void> {
    await this.#weights.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** @returns names of the tensors to import */
function checkTensors({ spec, source }: CheckpointConfig, weights: SafetensorsFile): string[] {
  const expected = expectedTensors(spec, source);
  const mismatch = (what: string) => new CheckpointError("CHECKPOINT_TENSOR_MISMATCH", `"${WEIGHTS_FILE}": ${what}`);
  for (const [name, shape] of expected) {
    const entry = weights.tensors.get(name);
    if (entry === undefined) throw mismatch(`tensor "${name}" [${shape}] is missing`);
    if (entry.dtype !== "F32") {
      throw new CheckpointError(
        "CHECKPOINT_UNSUPPORTED",
        `"${WEIGHTS_FILE}": tensor "${name}" is ${entry.dtype}; supported: F32`,
      );
    }
    if (entry.shape.join() !== shape.join()) {
      throw mismatch(`tensor "${name}" is [${entry.shape}]; config.json makes it [${shape}]`);
    }
  }
  for (const name of weights.tensors.keys()) {
    const isTiedHead = spec.tiedEmbeddings && name === HEAD;
    if (!expected.has(name) && !isTiedHead && !isRecomputedTensor(name)) {
      throw mismatch(`tensor "${name}" is not part of a ${spec.architecture} model with this config.json`);
    }
  }
  return [...expected.keys()];
}

function refuseNonFinite(name: string, values: Float32Array): void {
  // x − x is 0 for every finite x and NaN otherwise: one pass without branches, then a search only if something is wrong.
  let poison = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    poison += value - value;
  }
  if (poison === 0) return;
  const index = values.findIndex((value) => !Number.isFinite(value));
  throw new CheckpointError("CHECKPOINT_NOT_FINITE", `tensor "${name}" is ${values[index]} at element ${index}`);
}
