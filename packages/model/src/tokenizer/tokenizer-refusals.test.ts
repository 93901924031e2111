import { describe, expect, it } from "vitest";
import { fixture, fixtureFile } from "../testing/tokenizer-fixture.ts";
import { Tokenizer } from "./tokenizer.ts";

type Json = Record<string, unknown>;

const invalid = (message: RegExp) =>
  expect.objectContaining({ reason: "TOKENIZER_INVALID", message: expect.stringMatching(message) });
const config = fixtureFile("byte-level", "tokenizer_config.json");
const split = (regex: string) => ({ type: "Split", pattern: { Regex: regex }, behavior: "Isolated", invert: false });
const sequence = (...decoders: Json[]) => ({ type: "Sequence", decoders });
const json = () => JSON.parse(fixtureFile("byte-level", "tokenizer.json")) as Json;
const load = (change: (file: Json) => void, name: "byte-level" | "byte-fallback" = "byte-level") =>
  fixture(name, change).tokenizer;

describe("a tokenizer", () => {
  it.each<[string, (file: Json) => void, RegExp]>([
    [
      "model WordPiece",
      (f) => Object.assign(f["model"] as Json, { type: "WordPiece" }),
      /model WordPiece is not supported/,
    ],
    ["no model", (f) => Object.assign(f, { model: null }), /model/],
    ["dropout", (f) => Object.assign(f["model"] as Json, { dropout: 0.1 }), /"dropout"/],
    ["a word suffix", (f) => Object.assign(f["model"] as Json, { end_of_word_suffix: "</w>" }), /end_of_word_suffix/],
    [
      "a subword prefix",
      (f) => Object.assign(f["model"] as Json, { continuing_subword_prefix: "##" }),
      /continuing_subword_prefix/,
    ],
    ["no vocabulary", (f) => Object.assign(f["model"] as Json, { vocab: undefined }), /vocab is not a map/],
    ["no merges", (f) => Object.assign(f["model"] as Json, { merges: undefined }), /merges is not a list/],
    [
      "another normalizer",
      (f) => Object.assign(f, { normalizer: { type: "BertNormalizer" } }),
      /normalizer BertNormalizer is not/,
    ],
    [
      "another normalizer within a sequence",
      (f) =>
        Object.assign(f, { normalizer: { type: "Sequence", normalizers: [{ type: "NFC" }, { type: "ByteLevel" }] } }),
      /normalizer ByteLevel is not/,
    ],
    ["a normalizer without a type", (f) => Object.assign(f, { normalizer: {} }), /normalizer has no type/],
    [
      "another pre-tokenizer",
      (f) => Object.assign(f, { pre_tokenizer: { type: "UnicodeScripts" } }),
      /pre_tokenizer UnicodeScripts/,
    ],
    ["a sequence of nothing", (f) => Object.assign(f, { pre_tokenizer: { type: "Sequence" } }), /has no pretokenizers/],
    [
      "a split behaviour that does not exist",
      (f) => Object.assign(f, { pre_tokenizer: { ...split("a"), behavior: "MergedWithBoth" } }),
      /pre_tokenizer Split: field "behavior"/,
    ],
    [
      "a field that is not known",
      (f) => Object.assign(f, { pre_tokenizer: { ...split("a"), limit: 3 } }),
      /pre_tokenizer Split: field "limit"/,
    ],
    [
      "a normalizer with a field that is not known",
      (f) => Object.assign(f, { normalizer: { type: "NFC", fast: true } }),
      /normalizer NFC: field "fast"/,
    ],
    [
      "a model with a field that is not known",
      (f) => Object.assign(f["model"] as Json, { max_word_length: 7 }),
      /model BPE: field "max_word_length"/,
    ],
    ["an empty pattern", (f) => Object.assign(f, { pre_tokenizer: split("") }), /pre_tokenizer Split: field "pattern/],
    [
      "a word mark of two characters",
      (f) => Object.assign(f, { pre_tokenizer: { type: "Metaspace", replacement: "__", prepend_scheme: "first" } }),
      /pre_tokenizer Metaspace: field "replacement"/,
    ],
    [
      "a Metaspace that contradicts itself",
      (f) =>
        Object.assign(f, {
          pre_tokenizer: { type: "Metaspace", replacement: "_", prepend_scheme: "first", add_prefix_space: false },
        }),
      /add_prefix_space contradicts/,
    ],
    ...[
      "(?<name>a)",
      "(?>a)",
      "a++",
      "a{1,2}+",
      "[a[b]]",
      "[a&&b]",
      "\\w",
      "\\b",
      "\\1",
      "\\G",
      "\\p{Alphabetic}",
      "(?i:\\p{L})",
      "(?i:ss)",
      "(?i)a",
      "[[:alpha:]]",
      "(a",
      "a)",
      "*a",
      "\\",
      "[a",
      "[]a]",
      "{2}",
      "(?i:é)",
    ].map((pattern): [string, (file: Json) => void, RegExp] => [
      `the pattern ${pattern}`,
      (f) => Object.assign(f, { pre_tokenizer: split(pattern) }),
      /pre_tokenizer Split: .* (in a pattern is not supported|is malformed)/,
    ]),
    ...["(a+)+b", "\\s+$"].map((pattern): [string, (file: Json) => void, RegExp] => [
      `the slow pattern ${pattern}`,
      (f) => Object.assign(f, { pre_tokenizer: split(pattern) }),
      /pre_tokenizer Split: the pattern takes too long/,
    ]),
    [
      "a character map that is no map",
      (f) => Object.assign(f, { normalizer: { type: "Precompiled", precompiled_charsmap: "AAAA" } }),
      /Precompiled: the character map is truncated/,
    ],
    [
      "another post-processor",
      (f) => Object.assign(f, { post_processor: { type: "BertProcessing" } }),
      /post_processor BertProcessing/,
    ],
    ["another decoder", (f) => Object.assign(f, { decoder: { type: "WordPiece" } }), /decoder WordPiece/],
    ["no decoder", (f) => Object.assign(f, { decoder: null }), /decoder null/],
    [
      "a decoder in another order",
      (f) => Object.assign(f, { decoder: sequence({ type: "Fuse" }, { type: "ByteFallback" }) }),
      /decoder ByteFallback at this place/,
    ],
    [
      "a Strip of every token",
      (f) => Object.assign(f, { decoder: sequence({ type: "Strip", content: " ", start: 1, stop: 0 }) }),
      /decoder Strip without Fuse/,
    ],
    [
      "a start token that is not defined",
      (f) =>
        Object.assign(f, {
          post_processor: {
            type: "TemplateProcessing",
            single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
            pair: [],
            special_tokens: {},
          },
        }),
      /TemplateProcessing: no special token "<s>"/,
    ],
    [
      "an added token twice",
      (f) => (f["added_tokens"] as Json[]).push({ id: 700, content: "<|end|>" }),
      /"<\|end\|>" twice/,
    ],
    [
      "an added token with another id than in the vocabulary",
      (f) => (f["added_tokens"] as Json[]).push({ id: 700, content: "a" }),
      /"a" another id/,
    ],
    [
      "merges of tokens that are not there",
      (f) => (((f["model"] as Json)["merges"] as unknown[])[0] = ["a", "日"]),
      /merges.0 is not made of tokens/,
    ],
    [
      "some of the byte tokens",
      (f) =>
        Object.assign(f["model"] as Json, {
          byte_fallback: true,
          vocab: { ...((f["model"] as Json)["vocab"] as Json), "<0x41>": 599 },
        }),
      /byte_fallback with only some/,
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
    [
      "merges of three",
      (f) => Object.assign(f["model"] as Json, { merges: [["a", "b", "c"]] }),
      /merges.0 is not a pair/,
    ],
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

  it("refuses messages that use up all marks", () => {
    const all = Array.from({ length: 32 }, (_, i) => String.fromCharCode(0xfdd0 + i)).join("");
    const { chatTemplate } = fixture("byte-level");
    const render = (content: string) => chatTemplate.render([{ role: "user", content }]);
    expect(() => render(all)).toThrow(expect.objectContaining({ reason: "CONTROL_TOKEN_IN_TEXT" }));
    expect(render(all.slice(1)).text).toContain(all.slice(1));
  });

  it("gives up on a text that its pattern takes too long for", () => {
    // Only at the start of a text, so that no simple text shows it.
    const tokenizer = load((file) => Object.assign(file, { pre_tokenizer: split("^qx(?:z|z)+?(?:z|z)+?y") }));
    expect(tokenizer.decode(tokenizer.encode("qxzzzzy"))).toBe("qxzzzzy");
    const start = performance.now();
    expect(() => tokenizer.encode(`qx${"z".repeat(64)}`)).toThrow(invalid(/takes more than \d+ ms/));
    expect(performance.now() - start).toBeLessThan(10_000);
  });

  it("shows a token of another alphabet as it is written", () => {
    const tokenizer = load((file) => Object.assign((file["model"] as { vocab: Json }).vocab, { 日: 600 }));
    expect(tokenizer.decode([600])).toBe("日");
  });

  it("takes text that is not well-formed for what it becomes in UTF-8", () => {
    const { tokenizer } = fixture("byte-level");
    expect(tokenizer.encode("a\ud800b")).toEqual(tokenizer.encode("a\ufffdb"));
  });
});
