import type { Figure } from "../figure.ts";

export interface BenchContext {
  /** Scratch folder; removed afterwards. */
  readonly directory: string;
  /** What is being done, for people who wait. */
  readonly onProgress: (text: string) => void;
  /** Values of the bench's own options. */
  readonly options: Readonly<Record<string, string>>;
}

/** An option of a bench, `--name value`. */
export interface BenchOption {
  readonly description: string;
  readonly default: string;
}

export interface Bench {
  readonly name: string;
  readonly description: string;
  /** By name. */
  readonly options?: Readonly<Record<string, BenchOption>>;
  run(context: BenchContext): Promise<Figure[]>;
}
