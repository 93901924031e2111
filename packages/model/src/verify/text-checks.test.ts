import { existsSync, readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { ModelManifest } from "../package/manifest.ts";
import { fixture, TOKENIZER_FIXTURES } from "../testing/tokenizer-fixture.ts";
import { ChatTemplate } from "../tokenizer/chat-template.ts";
import { Tokenizer } from "../tokenizer/tokenizer.ts";
import { checkChatTemplate, checkTokenizer } from "./text-checks.ts";

const FIXTURES = new URL("../tokenizer/fixtures/", import.meta.url);

/** A model with as many embeddings as the tokenizer has tokens, or others. */
function manifestFor(tokenizer: Tokenizer, changes: { vocabulary?: number; eos?: number[] } = {}): ModelManifest {
  const { vocabulary = tokenizer.vocabularySize, eos = [] } = changes;
  return { spec: { vocabulary }, tokens: { bos: null, eos } } as unknown as ModelManifest;
}

const folders = [
  ...TOKENIZER_FIXTURES,
  ...readdirSync(new URL("families/", FIXTURES)).map((name) => `families/${name}`),
].filter((name) => existsSync(new URL(`${name}/tokenizer.json`, FIXTURES)));

describe("a tokenizer", () => {
  it.each(folders)("of %s passes", (name) => {
    const read = (file: string) => readFileSync(new URL(`${name}/${file}`, FIXTURES), "utf8");
    const tokenizer = Tokenizer.parse(read("tokenizer.json"), read("tokenizer_config.json"));
    const { figures } = checkTokenizer(tokenizer, manifestFor(tokenizer));
    expect(Number(figures?.["exact"])).toBeGreaterThanOrEqual(1);
  });

  const { tokenizer } = fixture("byte-level");
  /** The same, but for what it makes of ids. */
  const reading = (change: (text: string) => string): Tokenizer =>
    ({
      vocabularySize: tokenizer.vocabularySize,
      namedTokens: tokenizer.namedTokens,
      controlTokens: tokenizer.controlTokens,
      encode: (text: string) => tokenizer.encode(text),
      decode: (ids: number[]) => change(tokenizer.decode(ids)),
      tokenBytes: (id: number) => tokenizer.tokenBytes(id),
    }) as unknown as Tokenizer;

  it("that loses a part of the text at every turn fails; one that normalizes it once does not", () => {
    const check = (change: (text: string) => string) => () => checkTokenizer(reading(change), manifestFor(tokenizer));
    expect(check((text) => text.slice(0, -1))).toThrow("comes back as");
    expect(check(() => "")).toThrow("comes back as");
    expect(check((text) => text.replace(/^ /, ""))).not.toThrow();
    expect(check((text) => text.toLowerCase())).not.toThrow();
  });

  it("with ids that the model has not, or without a token where replies end, fails", () => {
    const { vocabularySize } = tokenizer;
    expect(() => checkTokenizer(tokenizer, manifestFor(tokenizer, { vocabulary: vocabularySize - 1 }))).toThrow(
      `the tokenizer has token ids up to ${vocabularySize - 1}, the model ${vocabularySize - 1} embeddings`,
    );
    expect(() => checkTokenizer(tokenizer, manifestFor(tokenizer, { eos: [vocabularySize] }))).toThrow(
      `token ${vocabularySize}, which starts or ends replies, has no text`,
    );
  });
});

describe("a chat template", () => {
  const { tokenizer } = fixture("byte-level");
  const check = (source: string) =>
    checkChatTemplate({ tokenizer, chatTemplate: new ChatTemplate(source, tokenizer) }, manifestFor(tokenizer));

  const families = readdirSync(new URL("templates/", FIXTURES)).filter(
    (name) => name !== "snippets.json" && name !== "constructs.json",
  );
  it.each(families)("of the kind of %s passes", (name) => {
    const { source } = JSON.parse(readFileSync(new URL(`templates/${name}`, FIXTURES), "utf8")) as { source: string };
    expect(check(source).figures?.["questionTokens"]).toBeGreaterThan(3);
  });

  it("that loses messages, fails on a conversation or never ends, fails", () => {
    expect(() => check("{{ messages[0]['content'] }}")).toThrow('lacks the message "It arrives on Tuesday."');
    const single =
      "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}{{ messages[0]['content'] }}";
    expect(() => check(single)).toThrow("one only");
    expect(() => check("{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}")).toThrow();
  });

  it("says whether system messages are taken", () => {
    const all = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}";
    const users = `{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}${all}`;
    expect(check(all).message).toContain("system messages are taken");
    expect(check(users).message).toContain("system messages are refused");
    expect(check(`${all}{% if add_generation_prompt %}assistant: {% endif %}`).figures).toMatchObject({
      opening: "assistant: ",
    });
  });

  it("that is not there is no failure", () => {
    expect(() => checkChatTemplate({ tokenizer, chatTemplate: undefined }, manifestFor(tokenizer))).toThrow(
      expect.objectContaining({ name: "CheckSkipped" }),
    );
  });
});
