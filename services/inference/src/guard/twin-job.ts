import type { Chunk, ReadingJob } from "../engine/engine-job.ts";
import type { Heads } from "../engine/heads.ts";
import type { WornPersona } from "../engine/worn-persona.ts";
import type { Ending, Follower, RowOutcome } from "../scheduler/index.ts";
import { type TwinFigures, TwinSums } from "./twin-figures.ts";

export interface TwinInput {
  readonly id: string;
  readonly tenant: string;
  readonly prompt: readonly number[];
  /** Most tokens that the reply may have, at least 1. */
  readonly maxTokens: number;
  /** Tokens that the twin reads at a time: chunks, not steps, are what makes it cheap. */
  readonly windowTokens: number;
  /** Nobody's: the twin is what the model would have said by itself. */
  readonly worn: WornPersona;
  /** Told of the KL at each token, in order, between two steps. */
  readonly onCompared: (kl: number) => void;
}

/** A token of the steered reply, and the state that it was drawn from. */
export interface SteeredToken {
  readonly id: number;
  /** float32[hidden] after the final norm; kept until the twin has read the token. */
  readonly hidden: Float32Array;
  readonly entropy: number;
}

/** Windows that may wait for the twin: their hidden states take memory, and a twin that is so far behind finds no room. */
const MAX_WAITING_WINDOWS = 8;

/**
 * Reads the prompt and the tokens of a steered reply without steering, as they are written, and compares the two
 * distributions at every token.
 *
 * A follower: it gets a slot that nobody wants, reads in chunks when no prompt does, gives way to whoever waits, and is charged
 * to nobody. So it may end before the reply does; then the figures are of what was compared until then.
 */
export class TwinJob implements ReadingJob {
  readonly kind = "prefill";
  readonly residuals = false;
  readonly id: string;
  readonly tenant: string;
  readonly tokens: number;
  /** Up to the position that the reply's first token follows: what an earlier unsteered prompt of the tenant may have left. */
  readonly promptTokens: number;
  readonly worn: WornPersona;
  /** Prompt, then the reply as it comes; only {@link take} writes it, before `available` says so. */
  readonly prompt: Int32Array;
  readonly follower: Follower;
  /** Resolves when it reads no more. */
  readonly over: Promise<void>;
  readonly #input: TwinInput;
  readonly #sums = new TwinSums();
  /** Tokens that wait to be compared, the oldest first. */
  readonly #waiting: SteeredToken[] = [];
  #taken = 0;
  #state: "open" | "closed" | "over" = "open";
  readonly #end: () => void;

  constructor(input: TwinInput) {
    const { prompt, maxTokens } = input;
    this.#input = input;
    this.id = input.id;
    this.tenant = input.tenant;
    this.worn = input.worn;
    // The last token of the reply is compared, not read.
    this.tokens = prompt.length + maxTokens - 1;
    this.promptTokens = prompt.length - 1;
    this.prompt = new Int32Array(this.tokens);
    this.prompt.set(prompt);
    const readable = () => this.#readable();
    const isClosed = () => this.#state !== "open";
    this.follower = {
      get available() {
        return readable();
      },
      get closed() {
        return isClosed();
      },
    };
    const { promise, resolve } = Promise.withResolvers<void>();
    this.over = promise;
    this.#end = resolve;
  }

  /** The next token of the reply. */
  take({ id, hidden, entropy }: SteeredToken): void {
    if (this.#state !== "open") return;
    const { prompt, maxTokens, windowTokens } = this.#input;
    if (this.#taken === maxTokens || this.#waiting.length >= MAX_WAITING_WINDOWS * windowTokens) {
      this.close();
      return;
    }
    const position = prompt.length + this.#taken;
    if (position < this.tokens) this.prompt[position] = id;
    this.#taken++;
    this.#waiting.push({ id, hidden: hidden.slice(), entropy });
  }

  /** No more tokens come: it reads what there is, and is over. */
  close(): void {
    if (this.#state === "open") this.#state = "closed";
  }

  /** Of the tokens compared so far; undefined before the first. */
  figures(): TwinFigures | undefined {
    return this.#sums.figures();
  }

  /** From the prompt's last token on, every position says what the twin would have written next. */
  select({ start, end }: Chunk["step"]): number[] {
    const first = Math.max(start, this.#input.prompt.length - 1);
    return Array.from({ length: Math.max(0, end - first) }, (_, i) => first + i - start);
  }

  async read({ step, batch }: Chunk, heads: Heads): Promise<RowOutcome> {
    const count = this.select(step).length;
    if (count === 0) return { kind: "continue" };
    const tokens = this.#waiting.splice(0, count);
    const twin = batch.hidden.slice();
    const width = twin.length / count;
    const steered = new Float32Array(twin.length);
    tokens.forEach(({ hidden }, row) => {
      steered.set(hidden, row * width);
    });
    const kls = await heads.divergence(steered, twin);
    const { entropies } = await heads.score(
      twin,
      tokens.map(({ id }) => id),
    );
    tokens.forEach(({ entropy }, row) => {
      const kl = kls[row] as number;
      this.#sums.add({ kl, steeredEntropy: entropy, twinEntropy: entropies[row] as number });
      this.#input.onCompared(kl);
    });
    return { kind: "continue" };
  }

  ended(_: Ending): void {
    this.#state = "over";
    this.#waiting.length = 0;
    this.#end();
  }

  /**
   * Tokens that it may read now: each position only once the token that follows it is known, which is what it compares; and
   * of the reply whole windows, until it ends.
   */
  #readable(): number {
    const { prompt, windowTokens } = this.#input;
    const whole = this.#state === "open" ? this.#taken - (this.#taken % windowTokens) : this.#taken;
    return prompt.length - 1 + whole;
  }
}
