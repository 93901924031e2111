import { norm } from "@persona-mesh/steering";
import type { Chunk, ReadingJob } from "../engine/engine-job.ts";
import type { WornPersona } from "../engine/worn-persona.ts";
import type { Ending, RowOutcome } from "../scheduler/index.ts";
import { Outcome } from "./outcome.ts";

export interface CaptureInput {
  readonly id: string;
  readonly tenant: string;
  readonly prompt: readonly number[];
  readonly response: readonly number[];
  readonly pooling: "LAST_PROMPT_TOKEN" | "RESPONSE_MEAN";
  readonly layers: number;
  readonly hidden: number;
  readonly worn: WornPersona;
}

export interface Capture {
  /** float32[layers, hidden] */
  readonly pooled: Float32Array;
  /** float32[tokens − 1, layers]: L2 norms, the first position left out. */
  readonly norms: Float32Array;
  /** float32[layers, hidden]: sum over the same positions. */
  readonly sum: Float32Array;
}

/**
 * Reads a sample once and keeps what extraction needs of its residuals: nothing per token but the norms.
 *
 * The first position is the attention sink, with a norm of its own: it is left out of sums and norms.
 */
export class CaptureJob implements ReadingJob {
  readonly kind = "prefill";
  readonly reusePrefix = false;
  readonly residuals = true;
  readonly id: string;
  readonly tenant: string;
  readonly prompt: Int32Array;
  readonly tokens: number;
  readonly worn: WornPersona;
  readonly outcome = new Outcome<Capture>();
  readonly #input: CaptureInput;
  readonly #norms: Float32Array;
  /** float64, so that the sum does not depend on how the prompt is cut into chunks. */
  readonly #sum: Float64Array;
  readonly #pooled: Float64Array;

  constructor(input: CaptureInput) {
    this.id = input.id;
    this.tenant = input.tenant;
    this.#input = input;
    this.worn = input.worn;
    this.prompt = Int32Array.from([...input.prompt, ...input.response]);
    this.tokens = this.prompt.length;
    const width = input.layers * input.hidden;
    this.#norms = new Float32Array(Math.max(0, this.tokens - 1) * input.layers);
    this.#sum = new Float64Array(width);
    this.#pooled = new Float64Array(width);
  }

  select(): number[] {
    return [];
  }

  async read({ step, batch }: Chunk): Promise<RowOutcome> {
    const { layers, hidden } = this.#input;
    const width = layers * hidden;
    for (let position = step.start; position < step.end; position++) {
      const residual = batch.residuals.subarray((position - step.start) * width, (position - step.start + 1) * width);
      if (position > 0) {
        addTo(this.#sum, residual);
        for (let layer = 0; layer < layers; layer++) {
          const at = (position - 1) * layers + layer;
          this.#norms[at] = norm(residual.subarray(layer * hidden, (layer + 1) * hidden));
        }
      }
      if (this.#isPooled(position)) addTo(this.#pooled, residual);
    }
    return { kind: "continue" };
  }

  ended(ending: Ending): void {
    const { pooling, response } = this.#input;
    const count = pooling === "LAST_PROMPT_TOKEN" ? 1 : response.length;
    this.outcome.settle(ending, () => ({
      pooled: Float32Array.from(this.#pooled, (x) => x / count),
      norms: this.#norms,
      sum: Float32Array.from(this.#sum),
    }));
  }

  #isPooled(position: number): boolean {
    const { prompt, pooling } = this.#input;
    return pooling === "LAST_PROMPT_TOKEN" ? position === prompt.length - 1 : position >= prompt.length;
  }
}

function addTo(sum: Float64Array, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) sum[i] = (sum[i] as number) + (values[i] as number);
}
