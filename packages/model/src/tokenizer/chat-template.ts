import { TokenizerError } from "../errors.ts";
import type { PlainValue } from "./template/globals.ts";
import { TemplateProgram } from "./template/program.ts";
import { MAX_TEXT_CHARACTERS, type Tokenizer } from "./tokenizer.ts";

/** Longest template source; the longest in use is about 25,000 characters. */
const MAX_TEMPLATE_CHARACTERS = 256 * 1024;

const MAX_MESSAGES = 10_000;

/**
 * Roles a message may have. Templates write a role into control tokens (`<|user|>`), so a role is one of a few words and
 * never free text.
 */
export const CHAT_ROLES = ["system", "user", "assistant", "tool", "developer"] as const;

export type ChatRole = (typeof CHAT_ROLES)[number];

export interface ChatMessage {
  readonly role: ChatRole;
  readonly content: string;
}

export interface RenderOptions {
  /**
   * End with what opens a reply.
   *
   * @default true
   */
  readonly addGenerationPrompt?: boolean;
  /**
   * Whether a model that can think before it replies should (`enable_thinking` of the template).
   *
   * @default what the template does by itself
   */
  readonly thinking?: boolean;
  /**
   * The date for templates that write one.
   *
   * @default the current time
   */
  readonly now?: Date;
}

export interface RenderedChat {
  /** As the template wrote it. Encoding this text again may differ from `ids` where a message spells a control token. */
  readonly text: string;
  readonly ids: readonly number[];
}

/**
 * A model's chat template: messages to token ids.
 *
 * Control tokens come from the template only. A message that spells one, or half of one, reaches the model as the
 * characters it is made of; see {@link ControlGuard}.
 */
export class ChatTemplate {
  readonly #program: TemplateProgram;
  readonly #tokenizer: Tokenizer;

  /**
   * @param source - Jinja, as in `chat_template` of tokenizer_config.json
   * @throws TokenizerError CHAT_TEMPLATE_INVALID when it does not parse, or names what is not supported; CHAT_TEMPLATE_LIMIT
   */
  constructor(source: string, tokenizer: Tokenizer) {
    if (source.length > MAX_TEMPLATE_CHARACTERS) {
      throw new TokenizerError(
        "CHAT_TEMPLATE_INVALID",
        `the chat template has ${source.length} characters, over the limit of ${MAX_TEMPLATE_CHARACTERS}`,
      );
    }
    try {
      this.#program = new TemplateProgram(source);
    } catch (error) {
      if (error instanceof TokenizerError) throw error;
      throw new TokenizerError("CHAT_TEMPLATE_INVALID", `the chat template does not parse: ${text(error)}`, {
        cause: error,
      });
    }
    this.#tokenizer = tokenizer;
  }

  /**
   * @throws TokenizerError CHAT_MESSAGES_INVALID; CHAT_TEMPLATE_FAILED when the template refuses or fails;
   *   CHAT_TEMPLATE_LIMIT; CONTROL_TOKEN_IN_TEXT
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): RenderedChat {
    checkMessages(messages);
    const { guard } = this.#tokenizer;
    const mark = guard.chooseMark(messages.map(({ content }) => content));
    const marked = messages.map(({ role, content }) => ({ role, content: guard.mark(content.toWellFormed(), mark) }));
    const rendered = this.#run(
      {
        messages: marked,
        add_generation_prompt: options.addGenerationPrompt ?? true,
        tools: null,
        documents: null,
        ...(options.thinking !== undefined && { enable_thinking: options.thinking }),
        ...this.#tokenizer.namedTokens,
      },
      options.now ?? new Date(),
    );
    return { text: rendered.replaceAll(mark, ""), ids: this.#tokenizer.encodeMarked(rendered, mark) };
  }

  #run(variables: { readonly [name: string]: PlainValue }, now: Date): string {
    try {
      return this.#program.render(variables, now);
    } catch (error) {
      if (error instanceof TokenizerError) throw error;
      throw new TokenizerError("CHAT_TEMPLATE_FAILED", `the chat template fails on these messages: ${text(error)}`, {
        cause: error,
      });
    }
  }
}

function checkMessages(messages: readonly ChatMessage[]): void {
  const invalid = (what: string) => new TokenizerError("CHAT_MESSAGES_INVALID", what);
  if (messages.length === 0) throw invalid("a chat has at least one message");
  if (messages.length > MAX_MESSAGES) throw invalid(`${messages.length} messages, over the limit of ${MAX_MESSAGES}`);
  let characters = 0;
  for (const [index, { role, content }] of messages.entries()) {
    if (!CHAT_ROLES.includes(role)) {
      throw invalid(
        `message ${index} has role ${JSON.stringify(String(role).slice(0, 40))}; roles: ${CHAT_ROLES.join(", ")}`,
      );
    }
    if (typeof content !== "string") throw invalid(`message ${index} has no text content`);
    characters += content.length;
  }
  if (characters > MAX_TEXT_CHARACTERS) {
    throw new TokenizerError(
      "TEXT_TOO_LONG",
      `the messages have ${characters} characters, over the limit of ${MAX_TEXT_CHARACTERS}`,
    );
  }
}

function text(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 500);
}
