import { readFileSync } from "node:fs";
import { type ChatMessage, ChatTemplate } from "../tokenizer/chat-template.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { chatTemplateOf, parseTokenizerConfig } from "../tokenizer/tokenizer-files.ts";

/** Tokenizers made by tools/model-fixtures/tokenizer_reference.py, with what the reference libraries do with them. */
export const TOKENIZER_FIXTURES = ["byte-level", "byte-level-rule", "byte-fallback"] as const;

interface Reference {
  readonly cases: { text: string; ids: number[]; special_ids: number[]; decoded: string }[];
  readonly control: { text: string; ids: number[] }[];
  readonly chats: { messages: ChatMessage[]; add_generation_prompt: boolean; text: string; ids: number[] }[];
}

export function fixtureFile(name: (typeof TOKENIZER_FIXTURES)[number], file: string): string {
  return readFileSync(new URL(`../tokenizer/fixtures/${name}/${file}`, import.meta.url), "utf8");
}

/** @param change - what to change in tokenizer.json before it is loaded */
export function fixture(
  name: (typeof TOKENIZER_FIXTURES)[number],
  change: (tokenizerJson: Record<string, unknown>) => void = () => {},
): {
  tokenizer: Tokenizer;
  chatTemplate: ChatTemplate;
  reference: Reference;
} {
  const config = fixtureFile(name, "tokenizer_config.json");
  const json = JSON.parse(fixtureFile(name, "tokenizer.json")) as Record<string, unknown>;
  change(json);
  const tokenizer = Tokenizer.parse(JSON.stringify(json), config);
  const source = chatTemplateOf(parseTokenizerConfig(config));
  if (source === undefined) throw new Error(`fixture ${name} has a chat template`);
  return {
    tokenizer,
    chatTemplate: new ChatTemplate(source, tokenizer),
    reference: JSON.parse(fixtureFile(name, "reference.json")) as Reference,
  };
}
