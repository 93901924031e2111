import type { Message } from "@bufbuild/protobuf";
import type { GenerateInput, Reply } from "@persona-mesh/client";
import { bitsOf } from "./tensor.ts";

type Request = Exclude<GenerateInput, Message>;

/** What tests say of a request; what they leave out is the same for all. */
export interface AskOptions extends Partial<Omit<Request, "$typeName" | "sampling">> {
  /** Resource name of a persona; "" for none. @default "" */
  readonly as?: string;
  /** Of that persona. @default 1 */
  readonly gain?: number;
  /** @default 7n */
  readonly seed?: bigint;
  readonly sampling?: Omit<Exclude<Request["sampling"], Message | undefined>, "$typeName">;
}

/** A chat of one message that goes on to `maxTokens` (default 24), whatever the model says. */
export function ask(content: string, { as = "", gain, seed = 7n, sampling, ...request }: AskOptions = {}): Request {
  const selector = as === "" ? ({ case: "unsteered", value: {} } as const) : ({ case: "name", value: as } as const);
  return {
    prompt: { input: { case: "chat", value: { messages: [{ role: "user", content }] } } },
    persona: { selector, ...(gain === undefined ? {} : { gain }) },
    sampling: { seed, ...sampling },
    maxTokens: 24,
    ignoreEos: true,
    ...request,
  };
}

/** The prompt as text, not as a chat. */
export function textPrompt(text: string): NonNullable<GenerateInput["prompt"]> {
  return { input: { case: "text", value: text } };
}

export function tokensPrompt(ids: readonly number[]): NonNullable<GenerateInput["prompt"]> {
  return { input: { case: "tokenIds", value: { ids: [...ids] } } };
}

/** Everything of a reply that depends on the computation, to the bit. */
export function fingerprint({ tokens, text, finished }: Reply) {
  return {
    ids: tokens.map(({ id }) => id),
    logProbs: bitsOf(tokens.map(({ logProb }) => logProb)),
    entropies: bitsOf(tokens.map(({ entropy }) => entropy)),
    text,
    reason: finished.reason,
  };
}
