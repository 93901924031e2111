import type { Chunk, ReadingJob } from "../engine/engine-job.ts";
import type { Heads } from "../engine/heads.ts";
import type { WornPersona } from "../engine/worn-persona.ts";
import type { Ending, RowOutcome } from "../scheduler/index.ts";
import { Outcome } from "./outcome.ts";

export interface ScoreInput {
  readonly id: string;
  readonly tenant: string;
  /** Before the continuation; at least one token. */
  readonly prompt: readonly number[];
  /** May be empty when only masses are wanted. */
  readonly continuation: readonly number[];
  /** Token ids per set, whose mass as the next token after the prompt is wanted. */
  readonly tokenSets: readonly (readonly number[])[];
  readonly worn: WornPersona;
}

export interface Score {
  /** One per token of the continuation, nats. */
  readonly logProbs: Float32Array;
  readonly entropies: Float32Array;
  /** One per token set, 0 to 1. */
  readonly masses: readonly number[];
}

/** Reads prompt and continuation once and scores the continuation at every position. */
export class ScoreJob implements ReadingJob {
  readonly kind = "prefill";
  readonly reusePrefix = false;
  readonly residuals = false;
  readonly id: string;
  readonly tenant: string;
  readonly prompt: Int32Array;
  readonly tokens: number;
  readonly worn: WornPersona;
  /** Steering may change here: `PROMPT` personas stop to act, `GENERATED` ones begin. */
  readonly promptTokens: number;
  readonly outcome = new Outcome<Score>();
  readonly #input: ScoreInput;
  readonly #logProbs: Float32Array;
  readonly #entropies: Float32Array;
  #masses: number[] = [];

  constructor(input: ScoreInput) {
    this.id = input.id;
    this.tenant = input.tenant;
    this.#input = input;
    this.worn = input.worn;
    this.promptTokens = input.prompt.length;
    // The last token of the continuation is scored, not read.
    this.prompt = Int32Array.from([...input.prompt, ...input.continuation.slice(0, -1)]);
    this.tokens = this.prompt.length;
    this.#logProbs = new Float32Array(input.continuation.length);
    this.#entropies = new Float32Array(input.continuation.length);
  }

  /** From the prompt's last token on, every position says how likely the next token of the continuation is. */
  select({ start, end }: Chunk["step"]): number[] {
    const first = Math.max(start, this.#input.prompt.length - 1);
    return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i - start);
  }

  async read({ step, batch }: Chunk, heads: Heads): Promise<RowOutcome> {
    const error = this.worn.withdrawal();
    // Half a score with a persona and half without it would be a score of nothing.
    if (error !== undefined) return { kind: "fail", error };
    const selected = this.select(step);
    if (selected.length === 0) return { kind: "continue" };
    const { prompt, continuation, tokenSets } = this.#input;
    const at = step.start + (selected[0] as number) - (prompt.length - 1);
    const hidden = batch.hidden.slice();
    if (at === 0 && tokenSets.length > 0) {
      this.#masses = masses(await heads.logits(hidden.slice(0, hidden.length / selected.length)), tokenSets);
    }
    const ids = continuation.slice(at, at + selected.length);
    const { logProbs, entropies } = await heads.score(hidden, ids);
    this.#logProbs.set(logProbs, at);
    this.#entropies.set(entropies, at);
    return { kind: "continue" };
  }

  ended(ending: Ending): void {
    this.outcome.settle(ending, () => ({
      logProbs: this.#logProbs,
      entropies: this.#entropies,
      masses: this.#masses,
    }));
  }
}

/** Probability of each set under softmax(logits); a token named twice counts once. */
function masses(logits: Float32Array, sets: readonly (readonly number[])[]): number[] {
  const max = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - max), 0);
  return sets.map((ids) => {
    let sum = 0;
    for (const id of new Set(ids)) sum += Math.exp((logits[id] as number) - max);
    return sum / total;
  });
}
