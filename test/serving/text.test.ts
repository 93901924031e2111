import type { GenerateInput, Reply } from "@persona-mesh/client";
import { FinishReason } from "@persona-mesh/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { uniform } from "../support/random.ts";
import { ask, fingerprint, textPrompt, tokensPrompt } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ slots: 8 });
});

afterAll(() => stage.mesh.close());

const tokenizer = () => stage.mesh.running.worker.text.tokenizer;

interface Streamed extends Reply {
  /** Text as it came. */
  readonly pieces: readonly string[];
}

async function streamed(request: GenerateInput): Promise<Streamed> {
  const pieces: string[] = [];
  const reply = await stage.client.generateText(request, {}, (text) => {
    pieces.push(text);
  });
  return { ...reply, pieces };
}

const idsOf = ({ tokens }: Reply) => tokens.map(({ id }) => id);

test("characters never come in parts: every piece is whole, and together they are what the tokens say", async () => {
  // Near a flat distribution: most tokens beyond ASCII are parts of characters that nothing completes.
  const wild = (seed: bigint) => ask("hello", { maxTokens: 100, seed, sampling: { temperature: 10 } });
  const replies = await Promise.all([1n, 2n, 3n, 4n].map((seed) => streamed(wild(seed))));
  for (const reply of replies) {
    expect(reply.text).toBe(tokenizer().decode(idsOf(reply)));
    expect(reply.pieces.every((piece) => piece.isWellFormed())).toBe(true);
  }
  expect(replies.map(({ text }) => text).join("")).toContain("\uFFFD");
});

describe("stop strings", () => {
  const request = (stop: readonly string[]) => ask("Where is my parcel?", { maxTokens: 40, stop: [...stop] });

  /** Where the text ends: before the stop string that is complete first, the longest of those. */
  function cut(text: string, stops: readonly string[]): string {
    for (let end = 1; end <= text.length; end++) {
      const found = stops.filter((stop) => text.slice(0, end).endsWith(stop));
      if (found.length > 0) return text.slice(0, end - Math.max(...found.map((stop) => stop.length)));
    }
    return text;
  }

  test("end the text before the first of them, wherever tokens begin and end, and never show a part of one", async () => {
    const whole = await streamed(request([]));
    const next = uniform(5);
    const someOf = (text: string) => {
      const from = Math.floor(next() * (text.length - 8));
      return text.slice(from, from + 1 + Math.floor(next() * 8)).toWellFormed();
    };
    const choices = Array.from({ length: 24 }, () =>
      Array.from({ length: 1 + Math.floor(next() * 3) }, () => someOf(whole.text)),
    );
    const replies = await Promise.all(choices.map((stops) => streamed(request(stops))));
    for (const [index, reply] of replies.entries()) {
      const stops = choices[index] as string[];
      expect(reply.text).toBe(cut(whole.text, stops));
      expect(reply.finished.reason).toBe(FinishReason.STOP);
      expect(idsOf(reply)).toEqual(idsOf(whole).slice(0, reply.tokens.length));
      // Everything that was shown on the way was right.
      expect(whole.text.startsWith(reply.pieces.join(""))).toBe(true);
      for (const stop of stops) expect(reply.text).not.toContain(stop);
    }
  });

  test("one that never comes changes nothing, also where the end could have been its beginning", async () => {
    const whole = await streamed(request([]));
    const begun = `${whole.text.slice(-4)}~never~`;
    const reply = await streamed(request(["~never~", begun]));
    expect(fingerprint(reply)).toEqual(fingerprint(whole));
  });
});

describe("ends", () => {
  test("max_tokens, and 256 where nobody says", async () => {
    for (const maxTokens of [1, 2, 33]) {
      const { finished, tokens } = await streamed(ask("hello", { maxTokens }));
      expect(finished).toMatchObject({ reason: FinishReason.MAX_TOKENS, completionTokens: maxTokens });
      expect(tokens).toHaveLength(maxTokens);
    }
    const { maxTokens: _, ...unlimited } = ask("hello");
    expect((await streamed(unlimited)).finished).toMatchObject({
      reason: FinishReason.MAX_TOKENS,
      completionTokens: 256,
    });
  });

  test("the context: prompt and reply fill it, and not more", async () => {
    const { contextTokens } = stage.served.model;
    const prompt = tokensPrompt(new Array(contextTokens - 20).fill(30));
    const full = await streamed(ask("", { prompt, maxTokens: 1_000_000 }));
    expect(full.finished).toMatchObject({
      reason: FinishReason.CONTEXT,
      promptTokens: contextTokens - 20,
      completionTokens: 20,
    });
    const exact = await streamed(ask("", { prompt, maxTokens: 20 }));
    expect(exact.finished).toMatchObject({ reason: FinishReason.MAX_TOKENS, completionTokens: 20 });
    expect(idsOf(exact)).toEqual(idsOf(full));
    const less = await streamed(ask("", { prompt, maxTokens: 19 }));
    expect(less.finished).toMatchObject({ reason: FinishReason.MAX_TOKENS, completionTokens: 19 });
  });

  test("the model's end token, which is counted and not shown; ignore_eos goes on after it", async () => {
    const { eos } = stage.mesh.running.worker.model.manifest.tokens;
    // A model that answers ends sooner or later, but nobody knows at which seed.
    let ended: Streamed | undefined;
    for (let seed = 0; seed < 50 && ended === undefined; seed++) {
      const reply = await streamed(
        ask("Where is my parcel?", { seed: BigInt(seed), ignoreEos: false, maxTokens: 400 }),
      );
      if (reply.finished.reason === FinishReason.END) ended = reply;
    }
    if (ended === undefined) throw new Error("no reply of fifty ended by itself");
    const ids = idsOf(ended);
    expect(eos).toContain(ids.at(-1));
    expect(ids.slice(0, -1).filter((id) => eos.includes(id))).toEqual([]);
    expect(ended.finished.completionTokens).toBe(ids.length);
    expect(ended.text).toBe(tokenizer().decode(ids.slice(0, -1)));

    const { seed } = ended.started;
    const on = await streamed(ask("Where is my parcel?", { seed, maxTokens: ids.length + 5 }));
    expect(idsOf(on).slice(0, ids.length)).toEqual(ids);
    expect(on.tokens).toHaveLength(ids.length + 5);
    expect(on.text.startsWith(ended.text)).toBe(true);
  });
});

describe("tokens", () => {
  test("greedy is the most likely one at every step, whatever the seed, and so is the narrowest sampling", async () => {
    const base = { maxTokens: 20, topLogProbs: 5 } as const;
    const greedy = await streamed(ask("hello", { ...base, sampling: { temperature: 0 } }));
    for (const { id, logProb, topLogProbs } of greedy.tokens) {
      expect(topLogProbs).toHaveLength(5);
      expect(topLogProbs[0]).toMatchObject({ id, logProb });
      const values = topLogProbs.map((alternative) => alternative.logProb);
      expect(values).toEqual(values.toSorted((a, b) => b - a));
      expect(new Set(topLogProbs.map((alternative) => alternative.id)).size).toBe(5);
    }
    for (const sampling of [{ temperature: 0 }, { topK: 1 }, { minP: 1 }, { topP: 1e-9 }, { temperature: 1e-6 }]) {
      const other = await streamed(ask("hello", { ...base, seed: 99n, sampling }));
      expect(fingerprint(other)).toEqual(fingerprint(greedy));
    }
  });

  test("the figures at the end are those of the tokens", async () => {
    const { finished, tokens, started } = await streamed(ask("hello", { maxTokens: 50 }));
    const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(finished.meanEntropy).toBeCloseTo(mean(tokens.map(({ entropy }) => entropy)), 4);
    expect(finished.meanSurprisal).toBeCloseTo(-mean(tokens.map(({ logProb }) => logProb)), 4);
    expect(finished.promptTokens).toBe(started.promptTokens);
    expect(finished.repetition).toBeGreaterThanOrEqual(0);
    expect(finished.repetition).toBeLessThanOrEqual(1);
    for (const { entropy, logProb } of tokens) {
      expect(entropy).toBeGreaterThan(-1e-4);
      expect(entropy).toBeLessThanOrEqual(Math.log(stage.served.model.vocabularySize));
      expect(logProb).toBeLessThan(1e-4);
    }
  });

  test("text, chat and the token ids that they stand for are the same prompt", async () => {
    const { text } = stage.mesh.running.worker;
    const words = "Where is my parcel? Größe ✓ 您好";
    const same = async (prompt: GenerateInput["prompt"], ids: readonly number[]) => {
      const spoken = await streamed({ ...ask(""), prompt: prompt as object });
      expect(spoken.started.promptTokens).toBe(ids.length);
      expect(fingerprint(await streamed({ ...ask(""), prompt: tokensPrompt(ids) }))).toEqual(fingerprint(spoken));
    };
    const { bos } = stage.mesh.running.worker.model.manifest.tokens;
    const ids = text.tokenizer.encode(words, { addSpecial: true });
    expect(ids[0]).toBe(bos);
    await same(textPrompt(words), ids);
    const chat = text.chatTemplate?.render([{ role: "user", content: words }]).ids ?? [];
    await same(ask(words).prompt, chat);
  });
});
