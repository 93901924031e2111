import type { Tokenizer } from "@persona-mesh/model";
import { type GuardEvent, measureReply, type ReplyMeasures } from "@persona-mesh/steering";
import type { GeneratingJob, TokenState } from "../engine/engine-job.ts";
import type { Heads, TopState } from "../engine/heads.ts";
import type { WornPersona } from "../engine/worn-persona.ts";
import type { ReplyWatch, WatchReport } from "../guard/reply-watch.ts";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import {
  type LogitEditParameters,
  LogitEdits,
  type SamplingParameters,
  type TokenLogProb,
  uniform,
} from "../sampling/index.ts";
import type { Ending, FinishReason, RowOutcome } from "../scheduler/index.ts";
import { chooseToken } from "./choose-token.ts";
import { EventQueue } from "./event-queue.ts";
import { errorOf } from "./outcome.ts";
import { ReplyClock, type ReplyTimes } from "./reply-clock.ts";
import { ReplyText } from "./reply-text.ts";

export interface GenerateInput {
  readonly id: string;
  readonly tenant: string;
  readonly prompt: readonly number[];
  readonly worn: WornPersona;
  readonly sampling: SamplingParameters;
  readonly edits: LogitEditParameters;
  /** uint64 */
  readonly seed: bigint;
  /** Which of the request's replies, from 0. */
  readonly choice: number;
  /** The caller's limit. */
  readonly maxTokens: number;
  /** Positions of the context that the prompt leaves, at least 1: the limit of the model. */
  readonly room: number;
  readonly stops: readonly string[];
  readonly topLogProbs: number;
  /** The model's tokens that end a reply. */
  readonly endTokens: ReadonlySet<number>;
  /** The caller's. */
  readonly stopTokens: ReadonlySet<number>;
  readonly tokenizer: Tokenizer;
  /** Guard and twin of the reply, told of by `onEvent`. */
  readonly watch: (onEvent: (event: GuardEvent) => void) => ReplyWatch;
}

/** One token of a reply and what is known of it. */
export interface ReplyToken {
  readonly id: number;
  /** Under the unmodified distribution, nats. */
  readonly logProb: number;
  readonly entropy: number;
  readonly alternatives: readonly TokenLogProb[];
  /** Residual · unit row direction over the reference norm, one per dosed layer of the persona. */
  readonly projections: readonly number[];
}

export interface FinishedReply {
  readonly reason: FinishReason;
  readonly tokens: number;
  /** Undefined for an empty reply. */
  readonly measures: ReplyMeasures | undefined;
  readonly queueMillis: number;
  readonly prefillMillis: number;
  readonly decodeMillis: number;
  /** Of prefilling and decoding, how long it had given its slot up. */
  readonly preemptedMillis: number;
  readonly watch: WatchReport;
}

export type GenerateEvent =
  | { readonly kind: "started"; readonly persona: LoadedPersona | undefined; readonly gain: number }
  | { readonly kind: "token"; readonly text: string; readonly token: ReplyToken }
  | {
      readonly kind: "switched";
      readonly persona: LoadedPersona | undefined;
      readonly gain: number;
      readonly afterTokens: number;
      readonly micros: number;
    }
  /** Alpha is lower from the next token on, or would be. */
  | { readonly kind: "guard"; readonly event: GuardEvent }
  /** `text` is what the stop strings had held back. */
  | { readonly kind: "finished"; readonly text: string; readonly reply: FinishedReply };

/** Writes a reply token by token into a stream of events. */
export class GenerateJob implements GeneratingJob {
  readonly kind = "generate";
  readonly id: string;
  readonly tenant: string;
  readonly prompt: Int32Array;
  readonly tokens: number;
  readonly replyTokens: number;
  readonly worn: WornPersona;
  readonly sampling: SamplingParameters;
  readonly events = new EventQueue<GenerateEvent>();
  readonly #input: GenerateInput;
  readonly #edits: LogitEdits;
  readonly #text: ReplyText;
  readonly #watch: ReplyWatch;
  readonly #ids: number[] = [];
  readonly #entropies: number[] = [];
  readonly #logProbs: number[] = [];
  readonly #clock = new ReplyClock();
  /** Measuring is quadratic in the reply, and the end of a call asks more than once. */
  #measured: ReplyMeasures | undefined;
  #begun = false;
  #cachedTokens = 0;
  /** Why the persona could not be taken on; ends the request at the next token. */
  #failure: { readonly error: unknown } | undefined;

  constructor(input: GenerateInput) {
    this.id = input.id;
    this.tenant = input.tenant;
    this.#input = input;
    this.prompt = Int32Array.from(input.prompt);
    this.tokens = this.prompt.length;
    this.replyTokens = Math.min(input.maxTokens, input.room);
    this.worn = input.worn;
    this.sampling = input.sampling;
    this.#edits = new LogitEdits(input.edits, input.prompt);
    this.#text = new ReplyText({ ...input, minTokens: input.edits.minTokens });
    this.#watch = input.watch((event) => this.events.push({ kind: "guard", event }));
  }

  get nextToken(): number {
    const token = this.#ids.at(-1);
    if (token === undefined) throw new Error(`job ${this.id} decodes before its first token`);
    return token;
  }

  get reply(): readonly number[] {
    return this.#ids;
  }

  get wantsLogits(): boolean {
    return this.#edits.active;
  }

  /** Means over the tokens so far, for logs; undefined before the first. */
  measures(): ReplyMeasures | undefined {
    const tokens = this.#ids.length;
    if (tokens > 0 && this.#measured?.tokens !== tokens) {
      this.#measured = measureReply({ tokenIds: this.#ids, entropies: this.#entropies, logProbs: this.#logProbs });
    }
    return this.#measured;
  }

  /** It is about to stand in the queue: what its call did before is no waiting. */
  queued(): void {
    this.#clock.queue();
  }

  prefixFound({ cachedTokens }: { readonly cachedTokens: number }): void {
    this.#cachedTokens = cachedTokens;
    this.#clock.start();
  }

  preempted(): void {
    this.#clock.preempt();
  }

  resumed(): void {
    this.#clock.resume();
  }

  /** Of the prompt's tokens, those whose keys and values were there already. */
  get cachedTokens(): number {
    return this.#cachedTokens;
  }

  times(): ReplyTimes {
    return this.#clock.times();
  }

  beforeStep(): void {
    if (!this.#begun) {
      this.#begun = true;
      this.#clock.start();
      this.events.push({ kind: "started", persona: this.worn.persona, gain: this.worn.gain });
      this.#watch.begin();
      return;
    }
    try {
      const switched = this.worn.refresh();
      if (switched === undefined) return;
      this.#watch.changed();
      this.events.push({ kind: "switched", ...switched, afterTokens: this.#ids.length });
    } catch (error) {
      this.#failure = { error };
    }
  }

  async sample(state: TokenState, top: TopState, heads: Heads): Promise<RowOutcome> {
    if (this.#failure !== undefined) return { kind: "fail", error: this.#failure.error };
    const { seed, choice, topLogProbs } = this.#input;
    const { id, logProb, alternatives } = await chooseToken(state, top, heads, {
      parameters: this.sampling,
      edits: this.#edits,
      random: uniform(seed, choice, this.#ids.length),
      alternatives: topLogProbs,
    });
    const projections = this.#projections(state);
    const outcome = this.#take({ id, logProb, entropy: top.entropy, alternatives, projections });
    this.#watch.take({ id, hidden: state.hidden, entropy: top.entropy });
    const refills = this.#watch.takeRefill();
    return refills && outcome.kind === "continue" ? { kind: "rewind", from: this.tokens } : outcome;
  }

  ended(ending: Ending): void {
    this.#clock.end();
    if (ending.kind !== "finished") {
      this.#watch.abandon();
      this.events.fail(errorOf(ending));
      return;
    }
    const text = this.#text.rest();
    const finish = () => {
      this.events.push({ kind: "finished", text, reply: this.#finished(ending.reason) });
      this.events.end();
    };
    const compared = this.#watch.finish();
    if (compared === undefined) finish();
    else void compared.then(finish);
  }

  /** What guard and twin found so far. */
  watched(): WatchReport {
    return this.#watch.report(this.measures());
  }

  #take(token: ReplyToken): RowOutcome {
    this.#clock.firstToken();
    this.#ids.push(token.id);
    // float32 rounding may leave an entropy or a surprisal a hair below 0.
    this.#entropies.push(Math.max(0, token.entropy));
    this.#logProbs.push(Math.min(0, token.logProb));
    this.#edits.take(token.id);
    const isEnd = this.#input.endTokens.has(token.id);
    if (isEnd || this.#input.stopTokens.has(token.id)) {
      this.events.push({ kind: "token", text: "", token });
      return { kind: "finish", reason: isEnd ? "end" : "stop" };
    }
    const { text, stopped } = this.#text.push(token.id);
    this.events.push({ kind: "token", text, token });
    if (stopped) return { kind: "finish", reason: "stop" };
    if (this.#ids.length >= this.#input.maxTokens) return { kind: "finish", reason: "maxTokens" };
    return this.#ids.length >= this.#input.room ? { kind: "finish", reason: "context" } : { kind: "continue" };
  }

  #projections({ projections }: TokenState): number[] {
    const { persona, steering } = this.worn;
    const norms = steering.lease?.norms;
    if (persona === undefined || norms === undefined) return [];
    return persona.doses.map(({ layer, referenceNorm }) => {
      const length = norms[layer] as number;
      return length === 0 ? 0 : (projections[layer] as number) / length / referenceNorm;
    });
  }

  #finished(reason: FinishReason): FinishedReply {
    const { queued, ended, started = ended, firstToken = ended, preemptedMillis } = this.#clock.times();
    return {
      reason,
      tokens: this.#ids.length,
      measures: this.measures(),
      queueMillis: started - queued,
      prefillMillis: firstToken - started,
      decodeMillis: ended - firstToken,
      preemptedMillis,
      watch: this.watched(),
    };
  }
}
