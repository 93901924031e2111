import type { InferenceClient } from "@persona-mesh/client";
import { request } from "./replies.ts";
import { type LearnedPersona, writeTenant } from "./tenants.ts";

/** Switches that are measured; the first writes rows, later ones find them resident. */
const SWITCHES = 7;

/** Streams begun to see them all: a context holds only so many tokens. */
const MAX_STREAMS = 20;

export interface LiveSwitchOptions {
  readonly client: InferenceClient;
  readonly personasDir: string;
  readonly tenant: string;
  /** At least two. */
  readonly personas: readonly LearnedPersona[];
  readonly signal: AbortSignal;
  readonly onShown: (text: string) => void;
}

/**
 * Change the tenant's active persona again and again while a stream follows it.
 *
 * @returns median time that the worker took between two steps to put the next persona's rows into the batch, microseconds
 */
export async function liveSwitch(options: LiveSwitchOptions): Promise<number> {
  const { client, personasDir, tenant, personas, signal, onShown } = options;
  const micros: number[] = [];
  let active = 0;
  const activateNext = async () => {
    active = (active + 1) % personas.length;
    await writeTenant(personasDir, tenant, personas, personas[active]?.tone ?? null);
  };
  for (let stream = 0; stream < MAX_STREAMS && micros.length < SWITCHES; stream++) {
    const long = {
      ...request("I need help with my order.", {
        persona: { selector: { case: "active", value: { follow: true } } },
        seed: stream,
      }),
      maxTokens: 1_000_000,
      ignoreEos: true,
    };
    let asked = false;
    for await (const event of client.generate(long, { signal })) {
      if (event.case === "personaSwitched") {
        micros.push(event.value.switchMicros);
        asked = false;
        if (micros.length === 1) {
          onShown(`after ${event.value.afterTokens} tokens the stream went on as ${event.value.persona?.name}`);
        }
        if (micros.length === SWITCHES) break;
      }
      if (event.case === "tokens" && !asked) {
        asked = true;
        await activateNext();
      }
    }
  }
  if (micros.length < SWITCHES) throw new Error(`only ${micros.length} of ${SWITCHES} switches were seen`);
  const sorted = micros.sort((a, b) => a - b);
  return sorted[sorted.length >> 1] as number;
}
