import { InferenceClient } from "@persona-mesh/client";
import { ClientError } from "@persona-mesh/service/client";
import { Latencies } from "../mesh/latencies.ts";
import type { LoadPlan, TenantLoad, TenantReport } from "./load-plan.ts";
import type { Random } from "./random.ts";

/** Sends one tenant's requests for as long as the load runs, and keeps what became of them. */
export class TenantCaller implements Disposable {
  readonly #plan: LoadPlan;
  readonly #load: TenantLoad;
  readonly #random: Random;
  readonly #client: InferenceClient;
  readonly #firstToken = new Latencies();
  readonly #betweenTokens = new Latencies();
  readonly #queue = new Latencies();
  readonly #refused: Record<string, number> = {};
  #sent = 0;
  #finished = 0;
  #tokens = 0;

  constructor(plan: LoadPlan, load: TenantLoad, random: Random) {
    this.#plan = plan;
    this.#load = load;
    this.#random = random;
    this.#client = new InferenceClient({ address: plan.address, token: load.token });
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  /** @param signal - the load is over: what runs is cut short and does not count */
  async run(signal: AbortSignal): Promise<void> {
    const { arrivals } = this.#load;
    if (arrivals.kind === "streams") {
      const stream = async () => {
        while (!signal.aborted) await this.#request(signal);
      };
      await Promise.all(Array.from({ length: arrivals.count }, stream));
      return;
    }
    const running = new Set<Promise<void>>();
    // By the clock, not by the last arrival: a generator that is late for one makes up for it.
    for (let due = performance.now(); ; ) {
      due += this.#random.exponential(1000 / arrivals.perSecond);
      await sleep(due - performance.now(), signal);
      if (signal.aborted) break;
      const request = this.#request(signal).finally(() => running.delete(request));
      running.add(request);
    }
    await Promise.all(running);
  }

  report(): TenantReport {
    return {
      tenant: this.#load.tenant,
      sent: this.#sent,
      finished: this.#finished,
      refused: this.#refused,
      tokens: this.#tokens,
      firstToken: this.#firstToken.encoded(),
      betweenTokens: this.#betweenTokens.encoded(),
      queue: this.#queue.encoded(),
    };
  }

  async #request(signal: AbortSignal): Promise<void> {
    const { corpus, temperature, promptTokens, replyTokens } = this.#plan;
    const length = this.#random.of(promptTokens);
    const from = this.#random.below(corpus.length - length);
    const ids = corpus.slice(from, from + length);
    const started = performance.now();
    let last: number | undefined;
    this.#sent++;
    try {
      const events = this.#client.generate(
        {
          prompt: { input: { case: "tokenIds", value: { ids } } },
          persona: { selector: { case: "name", value: this.#random.of(this.#load.personas) } },
          sampling: { temperature, seed: BigInt(this.#sent) },
          maxTokens: this.#random.of(replyTokens),
          ignoreEos: true,
        },
        { signal },
      );
      for await (const event of events) {
        if (event.case === "finished") this.#queue.add(event.value.queueMillis);
        if (event.case !== "tokens") continue;
        const now = performance.now();
        this.#tokens += event.value.tokens.length;
        if (last === undefined) this.#firstToken.add(now - started);
        else this.#betweenTokens.add(now - last);
        last = now;
      }
      this.#finished++;
    } catch (error) {
      if (signal.aborted) return;
      const { reason } = ClientError.from(error);
      this.#refused[reason] = (this.#refused[reason] ?? 0) + 1;
      // One of so many at a time that is refused asks again later, as its kind does.
      if (this.#load.arrivals.kind === "streams") await sleep(REFUSED_PAUSE, signal);
    }
  }
}

const REFUSED_PAUSE = 50;

/** Returns early when the signal fires. */
function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  if (milliseconds <= 0 || signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done, { once: true });
  });
}
