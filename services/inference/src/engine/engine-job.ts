import type { BodyBatch } from "@persona-mesh/model/runtime";
import type { Ending, Job, PrefillStep, RowOutcome } from "../scheduler/index.ts";
import type { Heads, TopState } from "./heads.ts";
import type { WornPersona } from "./worn-persona.ts";

/** One chunk of a prompt, after its run. The arrays belong to the batch: read them before returning. */
export interface Chunk {
  readonly step: Pick<PrefillStep<Job>, "start" | "end" | "isLast">;
  readonly batch: BodyBatch;
}

/** What the heads and the residual stream say at the position that the next token follows. */
export interface TokenState {
  /** float32[hidden] after the final norm. */
  readonly hidden: Float32Array;
  /** float32[layers]: ⟨h, row⟩ before the injection. */
  readonly projections: Float32Array;
  /** float32[vocabulary], where the job wanted them: many rows at a time cost little more than one. */
  readonly logits?: Float32Array;
}

interface BaseJob extends Job {
  /** int32[tokens]: what is prefilled. */
  readonly prompt: Int32Array;
  readonly worn: WornPersona;
  /**
   * Whether keys and values of the prompt may come from an earlier request of the tenant, and be kept for a later one. Not
   * for a job that reads every position: what was not computed has no residuals and no log-probabilities. @default true
   */
  readonly reusePrefix?: boolean;
  /** Told when some are found. `cachedTokens`: of the prompt, those so far whose keys and values were there already. */
  prefixFound?(facts: { readonly cachedTokens: number }): void;
  /** Told when it has given its slot up, and when it goes on in another. */
  preempted?(): void;
  resumed?(): void;
  /** Told once, after the last step that touched the job. */
  ended(ending: Ending): void;
}

/** Prefills its prompt, then writes one token per step. */
export interface GeneratingJob extends BaseJob {
  readonly kind: "generate";
  /** The newest token: written by the next decode step. */
  readonly nextToken: number;
  /** Tokens so far, that one included: what a rewind prefills after the prompt. */
  readonly reply: readonly number[];
  /** Before every step of the job: the moment to change what it wears. */
  beforeStep(): void;
  readonly sampling: { readonly temperature: number };
  /** Whether the next token takes every logit. @default false */
  readonly wantsLogits?: boolean;
  /** Choose the next token. */
  sample(state: TokenState, top: TopState, heads: Heads): Promise<RowOutcome>;
}

/** Reads its prompt chunk by chunk and is done. */
export interface ReadingJob extends BaseJob {
  readonly kind: "prefill";
  /** Give out the residuals of every layer and position. */
  readonly residuals: boolean;
  /** Positions of the chunk, from its start, whose hidden states are wanted. */
  select(step: Chunk["step"]): number[];
  read(chunk: Chunk, heads: Heads): Promise<RowOutcome>;
}

export type EngineJob = GeneratingJob | ReadingJob;
