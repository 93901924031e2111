import { describe, expect, it } from "vitest";
import { fixture, fixtureFile } from "../testing/tokenizer-fixture.ts";
import { Tokenizer } from "./tokenizer.ts";

type Json = Record<string, unknown>;

const invalid = (message: RegExp) =>
  expect.objectContaining({ reason: "TOKENIZER_INVALID", message: expect.stringMatching(message) });
const config = fixtureFile("byte-level", "tokenizer_config.json");
const json = () => JSON.parse(fixtureFile("byte-level", "tokenizer.json")) as Json;
const load = (change: (file: Json) => void, name: "byte-level" | "byte-fallback" = "byte-level") =>
  fixture(name, change).tokenizer;

describe("a tokenizer", () => {
  it.each<[string, (file: Json) => void, RegExp]>([
    ["model WordPiece", (f) => Object.assign(f["model"] as Json, { type: "WordPiece" }), /model.type/],
    ["no model", (f) => Object.assign(f, { model: null }), /model/],
    ["dropout", (f) => Object.assign(f["model"] as Json, { dropout: 0.1 }), /model.dropout/],
    ["a word suffix", (f) => Object.assign(f["model"] as Json, { end_of_word_suffix: "</w>" }), /end_of_word_suffix/],
    [
      "a subword prefix",
      (f) => Object.assign(f["model"] as Json, { continuing_subword_prefix: "##" }),
      /continuing_subword_prefix/,
    ],
    ["no vocabulary", (f) => Object.assign(f["model"] as Json, { vocab: undefined }), /vocab is not a map/],
    ["no merges", (f) => Object.assign(f["model"] as Json, { merges: undefined }), /merges is not/],
    [
      "another normalizer",
      (f) => Object.assign(f, { normalizer: { type: "BertNormalizer" } }),
      /normalizer BertNormalizer is not/,
    ],
    [
      "another normalizer within a sequence",
      (f) => Object.assign(f, { normalizer: { type: "Sequence", normalizers: [{ type: "Nmt" }] } }),
      /normalizer Nmt is not/,
    ],
    ["a normalizer without a type", (f) => Object.assign(f, { normalizer: {} }), /normalizer has no type/],
    [
      "another pre-tokenizer",
      (f) => Object.assign(f, { pre_tokenizer: { type: "UnicodeScripts" } }),
      /pre_tokenizer UnicodeScripts/,
    ],
    ["a sequence of nothing", (f) => Object.assign(f, { pre_tokenizer: { type: "Sequence" } }), /has no pretokenizers/],
    [
      "a split that the library does not know",
      (f) =>
        Object.assign(f, {
          pre_tokenizer: { type: "Split", pattern: { String: " " }, behavior: "MergedWithNext", invert: false },
        }),
      /Split with behavior "MergedWithNext"/,
    ],
    [
      "a prefix space",
      (f) => Object.assign(f, { pre_tokenizer: { type: "ByteLevel", add_prefix_space: true } }),
      /add_prefix_space/,
    ],
    [
      "another post-processor",
      (f) => Object.assign(f, { post_processor: { type: "BertProcessing" } }),
      /post_processor BertProcessing/,
    ],
    ["another decoder", (f) => Object.assign(f, { decoder: { type: "WordPiece" } }), /decoder WordPiece/],
    ["no decoder", (f) => Object.assign(f, { decoder: null }), /decoder null/],
    [
      "a token outside the byte alphabet",
      (f) => Object.assign((f["model"] as { vocab: Json }).vocab, { 日: 599 }),
      /not in the byte-level alphabet/,
    ],
    [
      "added tokens that are no tokens",
      (f) => Object.assign(f, { added_tokens: [{ id: 1 }] }),
      /added_tokens.0.content/,
    ],
    [
      "a vocabulary id of 10^12",
      (f) => Object.assign((f["model"] as { vocab: Json }).vocab, { a: 1e12 }),
      /gives "a" no id/,
    ],
    ["merges of three", (f) => Object.assign(f["model"] as Json, { merges: [["a", "b", "c"]] }), /merges is not/],
    [
      "a token id of 10^12",
      (f) => Object.assign(f, { added_tokens: [{ id: 1e12, content: "x" }] }),
      /added_tokens.0.id/,
    ],
    [
      "an empty added token",
      (f) => Object.assign(f, { added_tokens: [{ id: 1, content: "" }] }),
      /added_tokens.0.content/,
    ],
    [
      "a control token that is matched after normalization",
      (f) =>
        Object.assign(f, {
          normalizer: { type: "NFC" },
          added_tokens: [{ id: 0, content: "<|bos|>", special: true, normalized: true }],
        }),
      /matched after normalization/,
    ],
  ])("with %s is refused by name", (_, change, message) => {
    expect(() => load(change)).toThrow(invalid(message));
  });

  it.each([
    ["", config],
    ["{", config],
    ["[]", config],
    ["null", config],
    [undefined, "[]"],
    [undefined, '{"eos_token":5}'],
    [undefined, '{"additional_special_tokens":[5]}'],
    [undefined, '{"eos_token":"a","eos_token":"b"}'],
  ])("is refused when its files are malformed: %j %j", (tokenizerJson, configJson) => {
    expect(() => Tokenizer.parse(tokenizerJson ?? JSON.stringify(json()), configJson)).toThrow(invalid(/./));
  });

  it("takes the token a config names as a control token, however it is marked", () => {
    const unmarked = (file: Json) => {
      for (const token of file["added_tokens"] as Json[]) token["special"] = false;
    };
    const end = load(unmarked).controlTokens.get("<|end|>") as number;
    expect(load(unmarked).isControl(end)).toBe(true);
    expect(load(unmarked).encode("<|end|>")).not.toContain(end);
    expect(load(unmarked).decode([end])).toBe("");
  });

  it("leaves added tokens that are not control tokens in the text", () => {
    const tokenizer = load((file) => {
      (file["added_tokens"] as Json[]).push({ id: 601, content: "<tool>", special: false, normalized: false });
    });
    expect(tokenizer.encode("a<tool>b")).toContain(601);
    expect(tokenizer.decode(tokenizer.encode("a<tool>b"))).toBe("a<tool>b");
    expect(tokenizer.vocabularySize).toBe(602);
    // No token has the id between.
    expect(() => tokenizer.decode([600])).toThrow(expect.objectContaining({ reason: "TOKEN_OUT_OF_RANGE" }));
  });

  it("reads named tokens as text and as objects", () => {
    const asObject = Tokenizer.parse(JSON.stringify(json()), '{"eos_token":{"content":"<|end|>","lstrip":false}}');
    expect(asObject.namedTokens).toEqual({ eos_token: "<|end|>" });
  });

  it("surrounds a text as the config says, if it says, else as the post-processor does", () => {
    // As transformers 5 decides: either field makes both count.
    const surrounded = (fields: object) => {
      const file = fixtureFile("byte-level-rule", "tokenizer.json");
      const configJson = {
        ...(JSON.parse(fixtureFile("byte-level-rule", "tokenizer_config.json")) as object),
        ...fields,
      };
      const tokenizer = Tokenizer.parse(file, JSON.stringify(configJson));
      return tokenizer.decode(tokenizer.encode("a", { addSpecial: true }), { skipSpecial: false });
    };
    expect(surrounded({})).toBe("<|bos|>a");
    expect(surrounded({ add_bos_token: true })).toBe("<|bos|>a");
    expect(surrounded({ add_bos_token: false })).toBe("a");
    expect(surrounded({ add_eos_token: true })).toBe("a<|end|>");
    expect(surrounded({ add_bos_token: true, add_eos_token: true })).toBe("<|bos|>a<|end|>");
    expect(surrounded({ add_bos_token: true, bos_token: null })).toBe("a");
    expect(() => surrounded({ add_bos_token: "yes" })).toThrow(invalid(/add_bos_token/));
  });

  it("refuses a text that is too long for any context", () => {
    const { tokenizer } = fixture("byte-level");
    expect(() => tokenizer.encode("a".repeat(5_000_000))).toThrow(expect.objectContaining({ reason: "TEXT_TOO_LONG" }));
  });

  it("refuses a text that uses up all marks", () => {
    const all = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i)).join("");
    const { tokenizer } = fixture("byte-level");
    expect(() => tokenizer.encode(all)).toThrow(expect.objectContaining({ reason: "CONTROL_TOKEN_IN_TEXT" }));
    expect(tokenizer.decode(tokenizer.encode(all.slice(1)))).toBe(all.slice(1));
  });
});
