import type { Figure } from "../figure.ts";

export interface BenchContext {
  /** Scratch folder; removed afterwards. */
  readonly directory: string;
  /** What is being done, for people who wait. */
  readonly onProgress: (text: string) => void;
}

export interface Bench {
  readonly name: string;
  readonly description: string;
  run(context: BenchContext): Promise<Figure[]>;
}
