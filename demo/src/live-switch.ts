import type { InferenceClient } from "@persona-mesh/client";
import { request } from "./replies.ts";

/** Switches that are measured; the first writes rows, later ones find them resident. */
const SWITCHES = 20;

/** Streams begun to see them all: a context holds only so many tokens. */
const MAX_STREAMS = 60;

export interface LiveSwitchOptions {
  readonly client: InferenceClient;
  /** Make another persona the tenant's active one, at the registry. */
  readonly activateNext: () => Promise<unknown>;
  readonly signal: AbortSignal;
  readonly onShown: (text: string) => void;
}

export interface LiveSwitchFigures {
  /** Median time that the worker took between two steps to put the next persona's rows into the batch, microseconds. */
  readonly switchMicros: number;
  /** From asking the registry to the stream that says it goes on as another, milliseconds; the 99th percentile. */
  readonly propagationMillisP99: number;
}

/** Change the tenant's active persona again and again while a stream follows it. */
export async function liveSwitch(options: LiveSwitchOptions): Promise<LiveSwitchFigures> {
  const { client, activateNext, signal, onShown } = options;
  const micros: number[] = [];
  const propagation: number[] = [];
  for (let stream = 0; stream < MAX_STREAMS && micros.length < SWITCHES; stream++) {
    const long = {
      ...request("I need help with my order.", {
        persona: { selector: { case: "active", value: { follow: true } } },
        seed: stream,
      }),
      maxTokens: 1_000_000,
      ignoreEos: true,
    };
    let askedAt: number | undefined;
    let activated: Promise<unknown> = Promise.resolve();
    for await (const event of client.generate(long, { signal })) {
      if (event.case === "personaSwitched" && askedAt !== undefined) {
        micros.push(event.value.switchMicros);
        propagation.push(performance.now() - askedAt);
        askedAt = undefined;
        if (micros.length === 1) {
          onShown(`after ${event.value.afterTokens} tokens the stream went on as ${event.value.persona?.name}`);
        }
        if (micros.length === SWITCHES) break;
      }
      if (event.case === "tokens" && askedAt === undefined) {
        askedAt = performance.now();
        // Not waited for: the stream must be read on, and may hear of it before we have the answer.
        activated = activated.then(activateNext);
      }
    }
    await activated;
  }
  if (micros.length < SWITCHES) throw new Error(`only ${micros.length} of ${SWITCHES} switches were seen`);
  return { switchMicros: quantile(micros, 0.5), propagationMillisP99: quantile(propagation, 0.99) };
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] as number;
}
