import type { Chunk, ReadingJob } from "../engine/engine-job.ts";
import type { Heads } from "../engine/heads.ts";
import type { WornPersona } from "../engine/worn-persona.ts";
import type { TokenLogProb } from "../sampling/index.ts";
import type { Ending, RowOutcome } from "../scheduler/index.ts";
import { Outcome } from "./outcome.ts";

export interface PromptLogProbsInput {
  readonly id: string;
  readonly tenant: string;
  readonly prompt: readonly number[];
  readonly worn: WornPersona;
  /** How many of the most likely tokens to report at each position. */
  readonly topLogProbs: number;
}

/** What the model says of a token of the prompt, given those before it. */
export interface PromptToken extends TokenLogProb {
  /** Most likely first. */
  readonly alternatives: readonly TokenLogProb[];
}

/** Reads a prompt once, as it is read for a reply, and says how likely each of its tokens was. */
export class PromptLogProbsJob implements ReadingJob {
  readonly kind = "prefill";
  readonly residuals = false;
  /** Positions that are not computed have no log-probabilities. */
  readonly reusePrefix = false;
  readonly id: string;
  readonly tenant: string;
  readonly prompt: Int32Array;
  readonly tokens: number;
  readonly worn: WornPersona;
  /** One per token but the first, which follows nothing. */
  readonly outcome = new Outcome<readonly PromptToken[]>();
  readonly #topLogProbs: number;
  readonly #read: PromptToken[] = [];

  constructor({ id, tenant, prompt, worn, topLogProbs }: PromptLogProbsInput) {
    this.id = id;
    this.tenant = tenant;
    this.prompt = Int32Array.from(prompt);
    this.tokens = this.prompt.length;
    this.worn = worn;
    this.#topLogProbs = topLogProbs;
  }

  /** Every position that a token of the prompt follows. */
  select({ start, end }: Chunk["step"]): number[] {
    return Array.from({ length: Math.min(end, this.tokens - 1) - start }, (_, i) => i);
  }

  async read({ step, batch }: Chunk, heads: Heads): Promise<RowOutcome> {
    const error = this.worn.withdrawal();
    if (error !== undefined) return { kind: "fail", error };
    const { length } = this.select(step);
    if (length === 0) return { kind: "continue" };
    const ids = Array.from(this.prompt.subarray(step.start + 1, step.start + 1 + length));
    const hidden = batch.hidden.slice();
    const { logProbs } = await heads.score(hidden, ids);
    const alternatives = this.#topLogProbs === 0 ? [] : await heads.likeliest(hidden, this.#topLogProbs);
    ids.forEach((id, at) => {
      this.#read.push({ id, logProb: logProbs[at] as number, alternatives: alternatives[at] ?? [] });
    });
    return { kind: "continue" };
  }

  ended(ending: Ending): void {
    this.outcome.settle(ending, () => this.#read);
  }
}
