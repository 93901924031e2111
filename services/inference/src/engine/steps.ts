import type { BodyBatch, ModelRuntime } from "@persona-mesh/model/runtime";
import { ServiceError } from "@persona-mesh/service";
import { effectiveAlpha } from "@persona-mesh/steering";
import type { PrefixReuse } from "../prefix/prefix-reuse.ts";
import type { DecodeStep, PrefillStep, RowOutcome } from "../scheduler/index.ts";
import type { EngineJob, GeneratingJob, TokenState } from "./engine-job.ts";
import { Heads } from "./heads.ts";
import { UNSTEERED, writeSteering } from "./row-steering.ts";

/** What a chunk brought; `filled` where it was there already, up to position `end`. */
export type ChunkOutcome = RowOutcome | { readonly kind: "filled"; readonly end: number };

/** Runs one step at a time on the model: fills the inputs, runs, samples or lets the job read. */
export class Steps {
  readonly #runtime: ModelRuntime;
  readonly #chunkTokens: number;
  readonly #prefixes: PrefixReuse;
  readonly #heads: Heads;

  /** @param chunkTokens - the extent of chunks that comes again and again */
  constructor(runtime: ModelRuntime, chunkTokens: number, prefixes: PrefixReuse) {
    this.#runtime = runtime;
    this.#chunkTokens = chunkTokens;
    this.#prefixes = prefixes;
    this.#heads = new Heads(runtime);
  }

  /**
   * @param signal - ends the run before its next operator; what it wrote is at positions yet to be written
   * @throws what the runtime throws: the step is lost
   */
  async prefill(step: PrefillStep<EngineJob>, signal: AbortSignal): Promise<ChunkOutcome> {
    const { job, start, end } = step;
    if (job.kind === "generate") job.beforeStep();
    const wanted = job.kind === "generate" ? [] : job.select(step);
    const filled = wanted.length === 0 ? this.#prefixes.fill(step) : start;
    if (filled > start) return { kind: "filled", end: filled };
    const length = end - start;
    // The graph needs a position to select; the last one is free.
    const select = wanted.length === 0 ? [length - 1] : wanted;
    const residuals = job.kind === "prefill" && job.residuals;
    const keep = length === this.#chunkTokens && select.length === 1 && !residuals;
    const batch = this.#runtime.chunkBatch(
      step.slot,
      { sequence: length, selected: select.length },
      { residuals, keep },
    );
    try {
      writeTokens(batch.tokens, job, start);
      batch.lastPosition[0] = end - 1;
      batch.select.set(select);
      writeSteering(batch, 0, this.#runtime.spec.layers, job.worn.steering, step.phase);
      await batch.run(signal);
      if (!batch.hidden.every(Number.isFinite)) return overflow(job);
      // Before the job hears of it: what it wears then may change, and is not what acted here.
      this.#prefixes.keep(step);
      return await this.#outcomeOfChunk(step, batch);
    } finally {
      if (!keep) batch[Symbol.dispose]();
    }
  }

  /** @returns by slot. @throws what the runtime throws: the step is lost */
  async decode(step: DecodeStep<EngineJob>): Promise<(RowOutcome | undefined)[]> {
    const { layers, hidden } = this.#runtime.spec;
    const batch = this.#runtime.decodeBatch(step.rows.length);
    const sampled: { slot: number; job: GeneratingJob; state: TokenState }[] = [];
    step.rows.forEach((row, slot) => {
      batch.lastPosition[slot] = row.position;
      if (row.kind === "decode" && row.job.kind === "generate") {
        row.job.beforeStep();
        batch.tokens[slot] = row.job.nextToken;
        writeSteering(batch, slot, layers, row.job.worn.steering, "generated");
        const state = {
          hidden: batch.hidden.subarray(slot * hidden, (slot + 1) * hidden),
          projections: batch.projections.subarray(slot * layers, (slot + 1) * layers),
        };
        sampled.push({ slot, job: row.job, state });
      } else {
        batch.tokens[slot] = 0;
        writeSteering(batch, slot, layers, UNSTEERED, "generated");
      }
    });
    await batch.run();
    const outcomes: (RowOutcome | undefined)[] = new Array(step.rows.length);
    const results = await this.#sample(sampled);
    sampled.forEach(({ slot }, index) => {
      outcomes[slot] = results[index];
    });
    return outcomes;
  }

  async #outcomeOfChunk(step: PrefillStep<EngineJob>, batch: BodyBatch): Promise<RowOutcome> {
    const { job } = step;
    if (job.kind === "prefill") return job.read({ step, batch }, this.#heads);
    if (!step.isLast) return { kind: "continue" };
    const layers = this.#runtime.spec.layers;
    const projections = batch.projections.slice(-layers);
    const [outcome] = await this.#sample([{ job, state: { hidden: batch.hidden.slice(), projections } }]);
    return outcome as RowOutcome;
  }

  /** Next token of each row. One row's NaN or failure is its own. */
  async #sample(rows: readonly { job: GeneratingJob; state: TokenState }[]): Promise<RowOutcome[]> {
    const top = await this.#heads.top(
      rows.map(({ state }) => state.hidden),
      rows.map(({ job }) => job.sampling.temperature),
    );
    const wanting = rows.filter(({ job }) => job.wantsLogits);
    const all = await this.#heads.allLogits(wanting.map(({ state }) => state.hidden));
    const logitsOf = new Map(wanting.map(({ job }, index) => [job, all[index] as Float32Array]));
    const outcomes: RowOutcome[] = [];
    for (const [index, { job, state }] of rows.entries()) {
      const row = top[index];
      if (row === undefined) throw new Error("the head gave fewer rows than it was given");
      const logits = logitsOf.get(job);
      const known = logits === undefined ? state : { ...state, logits };
      try {
        outcomes.push(Number.isFinite(row.entropy) ? await job.sample(known, row, this.#heads) : overflow(job));
      } catch (error) {
        outcomes.push({ kind: "fail", error });
      }
    }
    return outcomes;
  }
}

/** Prompt, then reply, from a position on. @param into - int32[positions] */
function writeTokens(into: Int32Array, job: EngineJob, start: number): void {
  into.set(job.prompt.subarray(start, start + into.length));
  if (job.kind === "prefill") return;
  for (let i = Math.max(0, job.tokens - start); i < into.length; i++) {
    into[i] = job.reply[start + i - job.tokens] as number;
  }
}

/** The row left the range of finite numbers: steering's doing where the job is steered, else the model's own. */
function overflow(job: EngineJob): RowOutcome {
  const { persona, gain } = job.worn;
  if (persona === undefined) {
    return { kind: "fail", error: new ServiceError("STEP_FAILED", "the model gave NaN or infinity for this request") };
  }
  const layers = [...persona.rows.keys()].join(",");
  const alpha = String(effectiveAlpha([persona.largestAlphaHundredths], gain) / 100);
  return {
    kind: "fail",
    error: new ServiceError(
      "STEERING_OVERFLOW",
      `the residual left the range of finite numbers at alpha ${alpha}, layers ${layers}`,
      { metadata: { alpha, layers } },
    ),
  };
}
