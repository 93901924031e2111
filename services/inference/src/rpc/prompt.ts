import { CHAT_ROLES, type ChatRole, type Tokenizer } from "@persona-mesh/model";
import type { Prompt } from "@persona-mesh/protocol";
import { ServiceError } from "@persona-mesh/service";
import type { Worker } from "../worker.ts";

/**
 * A prompt as token ids.
 *
 * @param room - positions that must stay free after it
 * @throws ServiceError PROMPT_EMPTY, PROMPT_TOO_LONG, TOKEN_ID_OUT_OF_RANGE, INVALID_ARGUMENT; TokenizerError
 */
export function encodePrompt(worker: Worker, prompt: Prompt | undefined, room = 1): number[] {
  const ids = idsOf(worker, prompt);
  if (ids.length === 0) throw new ServiceError("PROMPT_EMPTY", "the prompt has no tokens");
  requireRoom(worker, ids.length, room);
  return ids;
}

/**
 * UTF-8 bytes that fit the context at the very most: every token its longest.
 *
 * Longer texts are refused unread. Tokenizing takes a second per megabyte, during which no stream of any tenant moves.
 */
export function mostTextBytes(tokenizer: Tokenizer, contextTokens: number): number {
  let longest = 1;
  for (let id = 0; id < tokenizer.vocabularySize; id++) longest = Math.max(longest, bytesOf(tokenizer, id));
  return longest * contextTokens;
}

/** @throws ServiceError PROMPT_TOO_LONG for a text that is too long whatever it says */
export function requireReadable({ contextTokens, mostTextBytes }: Worker, text: string): void {
  const bytes = Buffer.byteLength(text);
  if (bytes <= mostTextBytes) return;
  throw new ServiceError(
    "PROMPT_TOO_LONG",
    `the text has ${bytes} bytes; no text over ${mostTextBytes} fits the context of ${contextTokens} tokens`,
    { metadata: { bytes: String(bytes), contextTokens: String(contextTokens) } },
  );
}

/** @throws ServiceError PROMPT_TOO_LONG */
export function requireRoom({ contextTokens }: Pick<Worker, "contextTokens">, tokens: number, room: number): void {
  if (tokens + room <= contextTokens) return;
  throw new ServiceError(
    "PROMPT_TOO_LONG",
    `the prompt has ${tokens} tokens; the context of ${contextTokens} leaves room for ${contextTokens - room}`,
    { metadata: { tokens: String(tokens), contextTokens: String(contextTokens) } },
  );
}

/** Token ids of a caller, checked against the vocabulary. @throws ServiceError TOKEN_ID_OUT_OF_RANGE */
export function requireTokenIds({ model }: Pick<Worker, "model">, ids: readonly number[], field: string): void {
  const { vocabulary } = model.manifest.spec;
  const wrong = ids.findIndex((id) => id >= vocabulary);
  if (wrong < 0) return;
  throw new ServiceError(
    "TOKEN_ID_OUT_OF_RANGE",
    `${field}[${wrong}]: token ${ids[wrong]} is not in the vocabulary of ${vocabulary}`,
    { fieldViolations: [{ field: `${field}[${wrong}]`, description: `must be below ${vocabulary}` }] },
  );
}

function idsOf(worker: Worker, prompt: Prompt | undefined): number[] {
  const { tokenizer, chatTemplate } = worker.text;
  const input = prompt?.input;
  switch (input?.case) {
    case "text":
      requireReadable(worker, input.value);
      // A start token alone is no prompt. Whether there is one is the tokenizer's to say: a model whose config.json names one
      // may never have been trained with it.
      return input.value === "" ? [] : tokenizer.encode(input.value, { addSpecial: true });
    case "chat": {
      if (input.value.messages.length === 0) return [];
      if (chatTemplate === undefined) {
        throw new ServiceError("UNIMPLEMENTED", "the served model has no chat template; send text or token ids");
      }
      const messages = input.value.messages.map(({ role, content }, index) => ({ role: roleOf(role, index), content }));
      requireReadable(worker, messages.map(({ content }) => content).join(""));
      return [...chatTemplate.render(messages).ids];
    }
    case "tokenIds":
      requireTokenIds(worker, input.value.ids, "prompt.token_ids.ids");
      return input.value.ids;
    case undefined:
      return [];
  }
}

function roleOf(role: string, index: number): ChatRole {
  const known = CHAT_ROLES.find((name) => name === role);
  if (known !== undefined) return known;
  throw ServiceError.invalid([
    { field: `prompt.chat.messages[${index}].role`, description: `one of ${CHAT_ROLES.join(", ")}` },
  ]);
}

function bytesOf(tokenizer: Tokenizer, id: number): number {
  try {
    return tokenizer.tokenBytes(id).length;
  } catch {
    // Vocabularies have gaps.
    return 0;
  }
}
