import { TokenizerError } from "../errors.ts";
import type { ModelManifest } from "../package/manifest.ts";
import { type ChatMessage, ChatTemplate } from "../tokenizer/chat-template.ts";
import type { ModelText } from "../tokenizer/load-tokenizer.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { CheckFailure, CheckSkipped, type Finding } from "./check.ts";

/** Text of many kinds: scripts, signs made of several characters, white space, code. */
const CORPUS: readonly string[] = [
  "The quick brown fox jumps over the lazy dog.",
  "Où est passé le naïf garçon ? Größe, ångström, piñata.",
  "Где моя посылка? Πού είναι; איפה החבילה? أين طردي؟",
  "我的包裹在哪里？荷物はどこですか。내 소포는 어디에 있나요?",
  "मेरा पार्सल कहाँ है? พัสดุของฉันอยู่ที่ไหน",
  "👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 é 🇪🇺 👍🏽",
  "  two spaces,\ttab,\n\nblank line,   three   between  ",
  "for (let i = 0; i < n; i++) { a[i] ??= b?.c ?? -1e-3; } // `x` <y> \\n",
  "0123456789 3.14159 1,000,000 0xDEADBEEF",
  "a\u0000b\u200dc\u00a0d\ufeffe\u2028f",
];

/**
 * Every id that comes out is one the model has, and reading it back gives the text; or, for tokenizers that normalize or
 * have no token for everything, a text that encodes to the same ids again.
 */
export function checkTokenizer(tokenizer: Tokenizer, { spec, tokens }: ModelManifest): Finding {
  if (tokenizer.vocabularySize > spec.vocabulary) {
    throw new CheckFailure(
      `the tokenizer has token ids up to ${tokenizer.vocabularySize - 1}, the model ${spec.vocabulary} embeddings`,
      { tokenizerVocabulary: tokenizer.vocabularySize, vocabulary: spec.vocabulary },
    );
  }
  for (const id of [...(tokens.bos === null ? [] : [tokens.bos]), ...tokens.eos]) {
    if (!isKnown(tokenizer, id))
      throw new CheckFailure(`token ${id}, which starts or ends replies, has no text`, { id });
  }
  let [exact, ids, unspoken] = [0, 0, 0];
  for (const [index, text] of CORPUS.entries()) {
    const encoded = encodeKnown(tokenizer, text);
    if (encoded === undefined) {
      if (index === 0) throw new CheckFailure("the vocabulary cannot write plain English");
      unspoken++;
      continue;
    }
    const wrong = encoded.find((id) => id >= spec.vocabulary);
    if (wrong !== undefined) throw new CheckFailure(`text gives token ${wrong}, the model has ${spec.vocabulary}`);
    if (encoded.length === 0) throw new CheckFailure(`${JSON.stringify(text)} gives no tokens`);
    const decoded = tokenizer.decode(encoded);
    ids += encoded.length;
    if (decoded === text) exact++;
    else requireStable(tokenizer, text, decoded);
  }
  const stable = CORPUS.length - exact - unspoken;
  return {
    message:
      `of ${CORPUS.length} texts ${exact} come back exactly` +
      (stable > 0 ? `, ${stable} in a normal form` : "") +
      (unspoken > 0 ? `; ${unspoken} have characters that the vocabulary lacks` : ""),
    figures: { texts: CORPUS.length, exact, stable, unspoken, tokens: ids },
  };
}

/** Undefined for a text with a character that no token, or only the one for unknown text, stands for. */
function encodeKnown(tokenizer: Tokenizer, text: string): number[] | undefined {
  const unknown = tokenizer.controlTokens.get(tokenizer.namedTokens["unk_token"] ?? "");
  try {
    const ids = tokenizer.encode(text);
    return unknown !== undefined && ids.includes(unknown) ? undefined : ids;
  } catch (error) {
    if (error instanceof TokenizerError && error.reason === "TOKENIZER_INVALID") return undefined;
    throw error;
  }
}

/**
 * What a tokenizer makes of a text is what it makes of it again: nothing is lost at every turn of a conversation. Spaces at
 * the start may be: families that put one in front of a text take one away.
 */
function requireStable(tokenizer: Tokenizer, text: string, decoded: string): void {
  const again = tokenizer.decode(tokenizer.encode(decoded));
  if (again.trimStart() === decoded.trimStart() && decoded.trim() !== "") return;
  throw new CheckFailure(`${JSON.stringify(text)} comes back as ${JSON.stringify(decoded)}`);
}

function isKnown(tokenizer: Tokenizer, id: number): boolean {
  try {
    return tokenizer.tokenBytes(id).length > 0;
  } catch {
    return false;
  }
}

const QUESTION = "Where is my parcel?";
const ANSWER = "It arrives on Tuesday.";
const ROUNDS: readonly (readonly ChatMessage[])[] = [
  [{ role: "user", content: QUESTION }],
  [
    { role: "user", content: QUESTION },
    { role: "assistant", content: ANSWER },
    { role: "user", content: "Thank you." },
  ],
];

/** The template renders a question and a conversation, with every message in it, and opens a reply when asked to. */
export function checkChatTemplate({ tokenizer, chatTemplate }: ModelText, { spec }: ModelManifest): Finding {
  if (!(chatTemplate instanceof ChatTemplate)) throw new CheckSkipped("the package has no chat template");
  const now = new Date(0);
  for (const messages of ROUNDS) {
    const { text, ids } = chatTemplate.render(messages, { now });
    for (const { content } of messages) {
      if (!text.includes(content))
        throw new CheckFailure(`the rendered chat lacks the message ${JSON.stringify(content)}`);
    }
    const wrong = ids.find((id) => id >= spec.vocabulary || !isKnown(tokenizer, id));
    if (wrong !== undefined) throw new CheckFailure(`the rendered chat has token ${wrong}, which the model has not`);
  }
  const [question = []] = ROUNDS;
  const open = chatTemplate.render(question, { now });
  const closed = chatTemplate.render(question, { now, addGenerationPrompt: false });
  const opening = open.text.startsWith(closed.text) ? open.text.slice(closed.text.length) : "";
  const system = hasSystem(chatTemplate, now);
  return {
    message: `a question takes ${open.ids.length} tokens; system messages are ${system ? "taken" : "refused"}`,
    figures: { questionTokens: open.ids.length, opening, system: String(system) },
  };
}

/** Whether the template takes a system message; several refuse them by design. */
function hasSystem(template: ChatTemplate, now: Date): boolean {
  try {
    const messages = [
      { role: "system", content: "Be brief." },
      { role: "user", content: QUESTION },
    ] as const;
    return template.render(messages, { now }).text.includes("Be brief.");
  } catch {
    return false;
  }
}
