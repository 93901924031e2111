/** Who generates. */
export type EngineName = "persona-mesh" | "transformers.js" | "node-llama-cpp";

/** What an engine is started with. */
export interface EngineOptions {
  /** The model as this engine reads it: a folder, or a file. */
  readonly model: string;
  /** Threads that share the work of one step. */
  readonly threads: number;
  /** Requests that can run at once. */
  readonly slots: number;
  /** Positions that each of them has. */
  readonly contextTokens: number;
}

/** Prompts that arrive together, as token ids, all of one length. */
export interface Batch {
  readonly prompts: readonly (readonly number[])[];
  /** Tokens to generate for each, greedily; nothing ends a text before. */
  readonly tokens: number;
}

export interface Generated {
  /** By prompt. */
  readonly ids: readonly (readonly number[])[];
  /** When each token was there, milliseconds after the batch was handed over; by prompt. */
  readonly at: readonly (readonly number[])[];
  /** Processor time of the engine's process until then, all threads, milliseconds; by prompt. */
  readonly cpu: readonly (readonly number[])[];
}

/** An engine with its model loaded. */
export interface PeerEngine {
  generate(batch: Batch): Promise<Generated>;
}

/** Writes down tokens as they come. */
export class Recorder implements Generated {
  readonly ids: number[][];
  readonly at: number[][];
  readonly cpu: number[][];
  readonly #started = performance.now();
  readonly #cpuBefore = process.cpuUsage();

  constructor(prompts: number) {
    this.ids = Array.from({ length: prompts }, () => []);
    this.at = Array.from({ length: prompts }, () => []);
    this.cpu = Array.from({ length: prompts }, () => []);
  }

  /** @returns how many tokens the prompt has by now */
  token(prompt: number, id: number): number {
    const { user, system } = process.cpuUsage(this.#cpuBefore);
    this.at[prompt]?.push(performance.now() - this.#started);
    this.cpu[prompt]?.push((user + system) / 1000);
    return this.ids[prompt]?.push(id) ?? 0;
  }
}
