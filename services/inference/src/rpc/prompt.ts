import { CHAT_ROLES, type ChatRole } from "@persona-mesh/model";
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

/** @throws ServiceError PROMPT_TOO_LONG */
export function requireRoom({ model }: Pick<Worker, "model">, tokens: number, room: number): void {
  const { contextTokens } = model.manifest.spec;
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
      // A start token alone is no prompt.
      return input.value === "" ? [] : tokenizer.encode(input.value, { addSpecial: true });
    case "chat": {
      if (input.value.messages.length === 0) return [];
      if (chatTemplate === undefined) {
        throw new ServiceError("UNIMPLEMENTED", "the served model has no chat template; send text or token ids");
      }
      const messages = input.value.messages.map(({ role, content }, index) => ({ role: roleOf(role, index), content }));
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
