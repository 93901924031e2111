import { SteeringError } from "../error.ts";
import { MAX_VECTOR_FILE_BYTES } from "../vector-file.ts";
import { isShortText, MAX_HIDDEN_SIZE, MAX_LAYER_COUNT, MAX_TEXT_LENGTH } from "../vector-manifest.ts";
import { isFiniteVector, norm, normalize } from "../vector-math.ts";
import { detectFormat } from "./detect-format.ts";
import { readElements, type StoredDirection } from "./element-type.ts";
import { blockOf, type ControlVectorFormat, type Producer } from "./producer.ts";
import { readGguf } from "./read-gguf.ts";
import { readSafetensors } from "./read-safetensors.ts";
import { refuse } from "./refuse.ts";

/**
 * Control vectors that other programs made, read from GGUF or safetensors.
 *
 * Everything in a file is untrusted: counts, lengths and places are checked against the bytes there are before anything is
 * allocated for them. What the files cannot say, the caller does: who wrote it, and for which model it is.
 */

export interface ReadOptions {
  /** Who wrote the file; decides which block N means. */
  readonly producer: Producer;
  /** Width of the model's residual stream. */
  readonly hiddenSize: number;
  /** Blocks of the model. */
  readonly layerCount: number;
  /** Tensor to read from a safetensors file with several matrices. @default the only one */
  readonly tensor?: string;
}

/** A control vector with our own numbers of layers. */
export interface ControlVector {
  readonly format: ControlVectorFormat;
  readonly producer: Producer;
  readonly hiddenSize: number;
  readonly layerCount: number;
  /** What the file calls its model; nobody checks that it is. */
  readonly modelHint?: string;
  /** By 0-based block, ascending. */
  readonly directions: ReadonlyMap<number, ImportedDirection>;
  /** What the importer should know; empty for nothing. */
  readonly findings: readonly ImportFinding[];
}

export interface ImportedDirection {
  /** Of unit length, float32[hidden]. */
  readonly direction: Float32Array;
  /** Its length in the file, > 0. */
  readonly norm: number;
}

export interface ImportFinding {
  readonly reason: ImportFindingReason;
  readonly message: string;
  readonly layer?: number;
}

export type ImportFindingReason =
  /** The producer leaves the sign to chance: the direction may mean the opposite of its name. */
  | "SIGN_UNKNOWN"
  /** A direction at the last block, where Hugging Face gives the residual only after the final norm. */
  | "LAST_BLOCK"
  /** The file does not say which model it is for. */
  | "MODEL_HINT_MISSING";

/**
 * Read a control vector, by its content and not by its name.
 *
 * @param bytes - a whole file; only read, and not kept
 * @throws SteeringError VECTOR_PICKLE_REFUSED, VECTOR_FORMAT_UNKNOWN, VECTOR_PRODUCER_MISMATCH, VECTOR_FILE_TOO_LARGE,
 *   VECTOR_FILE_TRUNCATED, VECTOR_HEADER_INVALID, VECTOR_TENSORS_INVALID; VECTOR_WIDTH_MISMATCH and LAYER_OUT_OF_RANGE for
 *   a vector of another model; VECTOR_NOT_FINITE; DEGENERATE_AXIS for a direction of no length
 * @throws RangeError when the model is no model: a fault of the caller's program
 */
export function readControlVector(bytes: Uint8Array, options: ReadOptions): ControlVector {
  const { producer, hiddenSize, layerCount } = options;
  requireCount("hiddenSize", hiddenSize, MAX_HIDDEN_SIZE);
  requireCount("layerCount", layerCount, MAX_LAYER_COUNT);
  if (bytes.length > MAX_VECTOR_FILE_BYTES) {
    refuse("VECTOR_FILE_TOO_LARGE", `${bytes.length} bytes are over the limit ${MAX_VECTOR_FILE_BYTES}`);
  }
  const format = detectFormat(bytes);
  if (format === "safetensors" && producer === "llama.cpp") {
    refuse("VECTOR_PRODUCER_MISMATCH", "a safetensors file, where llama.cpp writes GGUF only", { producer });
  }
  const stored = format === "gguf" ? readGguf(bytes, producer) : readSafetensors(bytes, layerCount, options.tensor);
  const modelHint = stored.modelHint || undefined;
  if (modelHint !== undefined && !isShortText(modelHint)) {
    refuse("VECTOR_HEADER_INVALID", `the model hint is not a text of 1 to ${MAX_TEXT_LENGTH} printable characters`);
  }
  const placed = stored.directions
    .map((direction) => ({ layer: blockOf(producer, direction.number, layerCount), direction }))
    .sort((a, b) => a.layer - b.layer);
  // All of them before the first is read: a vector of another model is refused as a whole, for what it is.
  for (const { layer, direction } of placed) requireWidth(direction, hiddenSize, layer);
  const directions = new Map(placed.map(({ layer, direction }) => [layer, importDirection(bytes, direction, layer)]));
  return {
    format,
    producer,
    hiddenSize,
    layerCount,
    ...(modelHint === undefined ? {} : { modelHint }),
    directions,
    findings: findingsOf(producer, modelHint, directions.has(layerCount - 1) ? layerCount - 1 : undefined),
  };
}

function requireWidth({ width }: StoredDirection, hiddenSize: number, layer: number): void {
  if (width === hiddenSize) return;
  refuse("VECTOR_WIDTH_MISMATCH", `layer ${layer}: ${width} numbers where the model's hidden size is ${hiddenSize}`, {
    layer,
    width,
    hiddenSize,
  });
}

function importDirection(bytes: Uint8Array, stored: StoredDirection, layer: number): ImportedDirection {
  const values = readElements(bytes, stored);
  if (!isFiniteVector(values)) refuse("VECTOR_NOT_FINITE", `layer ${layer}: NaN or Inf in the direction`, { layer });
  try {
    return { direction: normalize(values), norm: norm(values) };
  } catch (error) {
    if (!(error instanceof SteeringError)) throw error;
    const length = norm(values);
    return refuse(
      error.reason,
      `layer ${layer}: length ${length} gives no direction; leave the layer out of the file`,
      {
        layer,
        length,
      },
    );
  }
}

function findingsOf(
  producer: Producer,
  modelHint: string | undefined,
  lastBlock: number | undefined,
): readonly ImportFinding[] {
  const findings: ImportFinding[] = [];
  if (producer === "llama.cpp") {
    findings.push({
      reason: "SIGN_UNKNOWN",
      message: "llama.cpp's generator leaves the sign to chance, at each layer: compare both signs before this is used",
    });
  }
  if (lastBlock !== undefined) {
    findings.push({
      reason: "LAST_BLOCK",
      message: `layer ${lastBlock} is the last block, which many programs read after the final norm: leave it out if so`,
      layer: lastBlock,
    });
  }
  if (modelHint === undefined) {
    findings.push({ reason: "MODEL_HINT_MISSING", message: "the file does not say which model it is for" });
  }
  return findings;
}

function requireCount(name: string, value: number, most: number): void {
  if (!Number.isSafeInteger(value) || value < 1 || value > most) {
    throw new RangeError(`${name} ${value} is not a whole number from 1 to ${most}`);
  }
}
