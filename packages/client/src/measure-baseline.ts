import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GenerateRequestSchema, GetModelResponse } from "@persona-mesh/protocol";
import type { CallOptions } from "@persona-mesh/service/client";
import { type GuardBaseline, guardBaselineSample, type Reply as ScoredReply } from "@persona-mesh/steering";
import { LocalError } from "./local-error.ts";
import type { Reply } from "./reply.ts";

/** The two calls that measuring makes; an InferenceClient has them. */
export interface BaselineClient {
  getModel(call?: CallOptions): Promise<GetModelResponse>;
  generateText(request: MessageInitShape<typeof GenerateRequestSchema>, call?: CallOptions): Promise<Reply>;
}

/** A prompt as the model is really asked. */
export interface BaselinePrompt {
  readonly prompt: string;
  readonly system?: string | undefined;
}

export interface MeasureBaselineOptions {
  readonly prompts: readonly BaselinePrompt[];
  /** Every prompt is answered once at each of them. */
  readonly temperatures: readonly number[];
  /** Where replies are cut. */
  readonly maxTokens: number;
  /** Of the first reply; every further one has the next. @default 0n */
  readonly seed?: bigint;
  readonly signal?: AbortSignal;
}

/** Calls that run at once: enough to fill a batch, few enough for anybody's queue. */
const IN_FLIGHT = 8;

/**
 * Measure what unsteered replies of a worker's model are like, for its guard: generate one to every prompt, and keep the
 * entropies. The same prompts, seed and model give the same baseline.
 *
 * @param onReply - told after every reply how many there are
 * @throws ClientError from the worker; SteeringError BASELINE_INVALID for too few replies; LocalError RESPONSE_INVALID when the
 *   model changed meanwhile
 */
export async function measureBaseline(
  client: BaselineClient,
  { prompts, temperatures, maxTokens, seed = 0n, signal }: MeasureBaselineOptions,
  onReply: (done: number) => void = () => {},
): Promise<GuardBaseline> {
  const call: CallOptions = signal === undefined ? {} : { signal };
  const { modelChecksum, graphDigest } = await client.getModel(call);
  let done = 0;
  const replyTo = async ({ prompt, system }: BaselinePrompt, index: number, temperature: number) => {
    const user = { role: "user", content: prompt };
    const messages = system === undefined ? [user] : [{ role: "system", content: system }, user];
    const reply = await client.generateText(
      {
        prompt: { input: { case: "chat", value: { messages } } },
        persona: { selector: { case: "unsteered", value: {} } },
        sampling: { temperature, seed: BigInt.asUintN(64, seed + BigInt(index)) },
        maxTokens,
      },
      call,
    );
    if (reply.started.modelChecksum !== modelChecksum) {
      throw new LocalError("RESPONSE_INVALID", "the worker's model changed while its baseline was measured");
    }
    onReply(++done);
    return scored(reply);
  };
  const samples = [];
  for (const temperature of temperatures) {
    const replies = await mapSome(prompts, (prompt, index) => replyTo(prompt, index, temperature));
    const written = replies.filter(({ tokenIds }) => tokenIds.length > 0);
    samples.push(guardBaselineSample(written, { temperature, maxTokens }));
  }
  return { modelChecksum, graphDigest, samples };
}

function scored({ tokens }: Reply): ScoredReply {
  return {
    tokenIds: tokens.map(({ id }) => id),
    // float32 rounding may leave either a hair on the other side of 0.
    entropies: tokens.map(({ entropy }) => Math.max(0, entropy)),
    logProbs: tokens.map(({ logProb }) => Math.min(0, logProb)),
  };
}

/** A few at a time; results in the order of the items. The first failure ends it. */
async function mapSome<Item, Result>(
  items: readonly Item[],
  work: (item: Item, index: number) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = new Array(items.length);
  let next = 0;
  let failed = false;
  const workOn = async () => {
    while (next < items.length && !failed) {
      const index = next++;
      try {
        results[index] = await work(items[index] as Item, index);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, workOn));
  return results;
}
