import type { GenerateInput, InferenceClient, Reply } from "@persona-mesh/client";

/** More than a worker has slots, so that none is idle while a reply ends and another begins. */
const IN_FLIGHT = 24;

/** A desk reply has about 30 tokens; a persona that never ends its reply is cut here, and judged as it is. */
const MAX_TOKENS = 96;

/** As a desk would sample; the same in every condition. The choice of layers and alpha was swept at it. */
const TEMPERATURE = 0.6;

export type Persona = NonNullable<GenerateInput["persona"]>;

/** One chat turn of a support desk. */
export function request(prompt: string, options: { persona: Persona; seed: number; system?: string }): GenerateInput {
  const system = options.system === undefined ? [] : [{ role: "system", content: options.system }];
  const messages = [...system, { role: "user", content: prompt }];
  return {
    prompt: { input: { case: "chat", value: { messages } } },
    persona: options.persona,
    sampling: { temperature: TEMPERATURE, seed: BigInt(options.seed) },
    maxTokens: MAX_TOKENS,
  };
}

export interface Batch {
  readonly replies: readonly Reply[];
  readonly tokensPerSecond: number;
}

/** Run all requests against a worker, many at a time; replies come in the order of the requests. */
export async function runAll(
  client: InferenceClient,
  requests: readonly GenerateInput[],
  options: { readonly signal: AbortSignal; readonly onReply?: () => void },
): Promise<Batch> {
  const replies: Reply[] = new Array(requests.length);
  const started = performance.now();
  let next = 0;
  const runSome = async () => {
    for (let index = next++; index < requests.length; index = next++) {
      replies[index] = await client.generateText(requests[index] as GenerateInput, { signal: options.signal });
      options.onReply?.();
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, runSome));
  const seconds = (performance.now() - started) / 1000;
  const tokens = replies.reduce((sum, { finished }) => sum + finished.completionTokens, 0);
  return { replies, tokensPerSecond: tokens / seconds };
}
