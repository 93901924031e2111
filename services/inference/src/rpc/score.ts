import { setImmediate } from "node:timers/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Continuation, ScoreRequest, ScoreResponseSchema } from "@persona-mesh/protocol";
import { type CallContext, ServiceError } from "@persona-mesh/service";
import { type Score, ScoreJob } from "../jobs/score-job.ts";
import type { Worker } from "../worker.ts";
import { newJobId } from "./job-id.ts";
import { personaProof, steeringFields } from "./persona-proof.ts";
import { gainViolations, selectPersona, wear } from "./persona-selection.ts";
import { encodePrompt, requireReadable, requireRoom, requireTokenIds } from "./prompt.ts";
import { runJobs } from "./run-jobs.ts";

/** Bounds the work of one call: each continuation is read twice. */
const MAX_CONTINUATIONS = 64;
const MAX_TOKEN_SETS = 64;

/** The answer repeats names. */
const MAX_SET_NAME_CHARACTERS = 128;

/** Ids of all token sets together: summing them up holds up every stream, by a few milliseconds at most. */
const MAX_TOKEN_SET_IDS = 65_536;

/** Tokens of all continuations together: the answer has up to 21 bytes for each, and must fit one message. */
const MAX_SCORED_TOKENS = 131_072;

/** Score: every continuation without the persona and with it, in one call. */
export async function score(
  worker: Worker,
  request: ScoreRequest,
  context: CallContext,
): Promise<MessageInitShape<typeof ScoreResponseSchema>> {
  requireCounts(request);
  const prompt = encodePrompt(worker, request.prompt, 0);
  const continuations: number[][] = [];
  let scored = 0;
  for (const [index, continuation] of request.continuations.entries()) {
    const ids = continuationIds(worker, continuation, index);
    requireRoom(worker, prompt.length + ids.length - 1, 0);
    continuations.push(ids);
    scored += ids.length;
    if (scored > MAX_SCORED_TOKENS) {
      const description = `have over ${MAX_SCORED_TOKENS} tokens in all; score them in several calls`;
      throw ServiceError.invalid([{ field: "continuations", description }]);
    }
    // Streams move on between one text and the next.
    await setImmediate();
  }
  const tokenSets = request.tokenSets.map(({ ids }, index) => {
    requireTokenIds(worker, ids, `token_sets[${index}].ids`);
    return ids;
  });
  const { persona, gain } = selectPersona(worker, context.caller, request.persona);
  // A call that only asks for masses reads the prompt alone.
  const texts = continuations.length === 0 ? [[]] : continuations;
  const sides = persona === undefined ? [undefined] : [undefined, persona];
  const jobs = sides.flatMap((worn) =>
    texts.map(
      (continuation, index) => () =>
        new ScoreJob({
          id: newJobId(context.requestId),
          tenant: context.caller.tenant,
          prompt,
          continuation,
          tokenSets: index === 0 ? tokenSets : [],
          worn: wear(worker, worn, gain),
        }),
    ),
  );
  context.annotate({
    ...steeringFields(persona, gain),
    promptTokens: prompt.length,
    continuations: continuations.length,
  });
  const scores: Score[] = [];
  for await (const [index, result] of runJobs(worker.engine, jobs, context.signal)) scores[index] = result;
  const unsteered = scores.slice(0, texts.length);
  const steered = persona === undefined ? [] : scores.slice(texts.length);
  context.annotate({ entropy: meanOf(persona === undefined ? unsteered : steered) });

  return {
    ...(persona === undefined ? {} : { persona: personaProof(persona, gain) }),
    continuations: continuations.map((tokenIds, index) => ({
      tokenIds,
      ...side("unsteered", unsteered[index]),
      ...side("steered", steered[index]),
    })),
    tokenSets: request.tokenSets.map(({ name }, index) => ({
      name,
      unsteered: unsteered[0]?.masses[index] as number,
      ...(steered[0] === undefined ? {} : { steered: steered[0].masses[index] as number }),
    })),
  };
}

/** Mean entropy over all continuations, nats; null where nothing but masses was asked for. */
function meanOf(scores: readonly Score[]): number | null {
  const entropies = scores.flatMap((score) => [...score.entropies]);
  return entropies.length === 0 ? null : entropies.reduce((sum, entropy) => sum + entropy, 0) / entropies.length;
}

function side(name: "steered" | "unsteered", result: Score | undefined) {
  if (result === undefined) return {};
  return { [name]: { logProbs: [...result.logProbs], entropies: [...result.entropies] } };
}

function requireCounts({ continuations, tokenSets, persona }: ScoreRequest): void {
  const setIds = tokenSets.reduce((sum, { ids }) => sum + ids.length, 0);
  const violations = [
    ...(continuations.length > MAX_CONTINUATIONS
      ? [{ field: "continuations", description: `${continuations.length}, at most ${MAX_CONTINUATIONS}` }]
      : []),
    ...(tokenSets.length > MAX_TOKEN_SETS
      ? [{ field: "token_sets", description: `${tokenSets.length}, at most ${MAX_TOKEN_SETS}` }]
      : []),
    ...(setIds > MAX_TOKEN_SET_IDS
      ? [{ field: "token_sets", description: `${setIds} ids in all, at most ${MAX_TOKEN_SET_IDS}` }]
      : []),
    ...tokenSets.slice(0, MAX_TOKEN_SETS).flatMap(({ name }, index) => {
      const description = `must have at most ${MAX_SET_NAME_CHARACTERS} characters`;
      return [...name].length <= MAX_SET_NAME_CHARACTERS ? [] : [{ field: `token_sets[${index}].name`, description }];
    }),
    ...gainViolations(persona),
    ...(continuations.length + tokenSets.length === 0
      ? [{ field: "continuations", description: "ask for at least one continuation or token set" }]
      : []),
  ];
  if (violations.length > 0) throw ServiceError.invalid(violations);
}

function continuationIds(worker: Worker, { input }: Continuation, index: number): number[] {
  const field = `continuations[${index}]`;
  if (input.case === "tokenIds") requireTokenIds(worker, input.value.ids, `${field}.token_ids.ids`);
  if (input.case === "text") requireReadable(worker, input.value);
  const ids = input.case === "tokenIds" ? input.value.ids : worker.text.tokenizer.encode(input.value ?? "");
  if (ids.length === 0) throw ServiceError.invalid([{ field, description: "has no tokens" }]);
  return ids;
}
