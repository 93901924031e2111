import { describe, expect, it } from "vitest";
import { fixture, TOKENIZER_FIXTURES } from "../testing/tokenizer-fixture.ts";

describe.each(TOKENIZER_FIXTURES)("tokenizer %s", (name) => {
  const { tokenizer, reference, chatTemplate } = fixture(name);

  it("gives the ids of the reference, with control tokens taken as text", () => {
    for (const { text, ids, special_ids } of reference.cases) {
      expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
      expect(tokenizer.encode(text, { addSpecial: true }), JSON.stringify(text)).toEqual(special_ids);
    }
  });

  it("gives the ids of the reference where control tokens are asked for", () => {
    for (const { text, ids } of reference.control) {
      expect(tokenizer.encode(text, { controlTokens: "tokens" }), text).toEqual(ids);
    }
  });

  it("decodes to the text of the reference", () => {
    for (const { ids, decoded } of reference.cases) expect(tokenizer.decode(ids)).toBe(decoded);
  });

  it("renders chats like the reference, text and ids", () => {
    for (const { messages, add_generation_prompt, text, ids } of reference.chats) {
      const rendered = chatTemplate.render(messages, { addGenerationPrompt: add_generation_prompt });
      expect(rendered.text).toBe(text);
      expect(rendered.ids).toEqual(ids);
    }
  });
});
