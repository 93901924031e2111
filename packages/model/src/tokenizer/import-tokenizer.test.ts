import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { fixtureFile } from "../testing/tokenizer-fixture.ts";
import { importTokenizer } from "./import-tokenizer.ts";
import { Tokenizer } from "./tokenizer.ts";

type Json = Record<string, unknown>;

const config = JSON.parse(fixtureFile("byte-level", "tokenizer_config.json")) as Json;

function checkpointWith(options: {
  added?: Json[];
  vocabulary?: number;
  config?: Json;
  template?: string;
}): Checkpoint {
  const tokenizer = JSON.parse(fixtureFile("byte-level", "tokenizer.json")) as { added_tokens: Json[] };
  tokenizer.added_tokens.push(...(options.added ?? []));
  const files = new Map([
    ["tokenizer.json", JSON.stringify(tokenizer)],
    ["tokenizer_config.json", JSON.stringify({ ...config, ...options.config })],
  ]);
  if (options.template !== undefined) files.set("chat_template.jinja", options.template);
  return {
    files: { readText: async (name: string) => files.get(name) },
    config: { spec: { vocabulary: options.vocabulary ?? 600 }, bosTokenId: undefined, eosTokenIds: [] },
  } as unknown as Checkpoint;
}

const refused = (message: RegExp) =>
  expect.objectContaining({
    reason: "CHECKPOINT_TOKENIZER_INVALID",
    message: expect.stringMatching(message),
  });

describe("importTokenizer", () => {
  it("keeps the files as they are, and finds the start and end tokens", async () => {
    const { files, tokens } = await importTokenizer(checkpointWith({}));
    const tokenizer = Tokenizer.parse(files["tokenizer.json"] as string, files["tokenizer_config.json"] as string);
    expect(JSON.parse(files["tokenizer.json"] as string)).toEqual(
      JSON.parse(fixtureFile("byte-level", "tokenizer.json")),
    );
    expect(tokens).toEqual({
      bos: tokenizer.controlTokens.get("<|bos|>"),
      eos: [tokenizer.controlTokens.get("<|end|>")],
    });
  });

  it("leaves out added tokens that the model has no embedding for", async () => {
    const image = { id: 600, content: "<image>", special: true, normalized: false };
    const { files } = await importTokenizer(checkpointWith({ added: [image] }));
    const tokenizer = Tokenizer.parse(files["tokenizer.json"] as string, files["tokenizer_config.json"] as string);
    expect(tokenizer.vocabularySize).toBe(600);
    expect(tokenizer.decode(tokenizer.encode("a<image>b", { controlTokens: "tokens" }))).toBe("a<image>b");
    const kept = await importTokenizer(checkpointWith({ added: [image], vocabulary: 601 }));
    expect(kept.files["tokenizer.json"]).toContain("<image>");
  });

  it("refuses a vocabulary, or an end token, that the model has no embedding for", async () => {
    await expect(importTokenizer(checkpointWith({ vocabulary: 599 }))).rejects.toThrow(refused(/up to 599.*only 599/));
    const end = { id: 600, content: "<stop>", special: true, normalized: false };
    const named = checkpointWith({ added: [end], config: { eos_token: "<stop>" } });
    await expect(importTokenizer(named)).rejects.toThrow(refused(/up to 600/));
  });

  it("refuses a chat template that runs for ever, and one that uses what is not supported", async () => {
    const withTemplate = (chat_template: string) => importTokenizer(checkpointWith({ config: { chat_template } }));
    const endless = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
    await expect(withTemplate(endless)).rejects.toThrow(refused(/nests deeper/));
    await expect(withTemplate("{{ messages | groupby('role') }}")).rejects.toThrow(refused(/filter "groupby"/));
    await expect(withTemplate("{% block a %}{% endblock %}")).rejects.toThrow(refused(/does not parse/));
    const picky = "{{ raise_exception('a system message is needed') }}";
    await expect(withTemplate(picky)).resolves.toMatchObject({ files: { "chat_template.jinja": picky } });
  });

  it("refuses an empty template file, and takes an empty template of the config for none", async () => {
    for (const template of ["", "\ufeff \n"]) {
      await expect(importTokenizer(checkpointWith({ template }))).rejects.toThrow(
        refused(/"chat_template.jinja" is empty: .* delete it/),
      );
      const { files } = await importTokenizer(checkpointWith({ config: { chat_template: template } }));
      expect(Object.keys(files)).toEqual(["tokenizer.json", "tokenizer_config.json"]);
    }
    const beside = checkpointWith({ template: "{{ 'file' }}", config: { chat_template: "" } });
    await expect(importTokenizer(beside)).resolves.toMatchObject({
      files: { "chat_template.jinja": "{{ 'file' }}" },
    });
  });
});
