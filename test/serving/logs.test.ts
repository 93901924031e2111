import type { Reply } from "@persona-mesh/client";
import { Pooling } from "@persona-mesh/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { personaName } from "../support/personas.ts";
import { ask, textPrompt } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { until } from "../support/until.ts";

const PERSONA = personaName("acme", "loud");

/** In every text that a client sends here, and nowhere else. */
const MARKER = "quokka-8041-marzipan";

let stage: Stage;

beforeAll(async () => {
  // At its most talkative.
  stage = await openStage({ slots: 2, logLevel: "trace" }, [{ name: "loud", seed: 1, layers: [2, 3], alpha: 0.4 }]);
});

afterAll(() => stage.mesh.close());

const written = () => stage.mesh.lines.join("");

/** The one line of a call, once it is there. */
async function lineOf(requestId: string): Promise<Record<string, unknown>> {
  const find = () => stage.mesh.log().filter((line) => line["msg"] === "call ended" && line["requestId"] === requestId);
  await until(() => find().length > 0, `the log line of ${requestId}`);
  expect(find()).toHaveLength(1);
  return find()[0] as Record<string, unknown>;
}

describe("every call is logged with what it wore and how sure the model was", () => {
  const WORN = { persona: PERSONA, alpha: 0.4, layers: [2, 3], tenant: "acme", subject: "tester" };

  test("a steered reply", async () => {
    const { started, finished } = await stage.client.generateText(ask("hello", { as: PERSONA }), {
      requestId: "steered",
    });
    const line = await lineOf("steered");
    expect(line).toMatchObject({
      ...WORN,
      code: "OK",
      method: "/persona.inference.v1.InferenceService/Generate",
      revision: started.persona?.revision,
      promptTokens: finished.promptTokens,
      replyTokens: finished.completionTokens,
    });
    expect(line["entropy"]).toBeCloseTo(finished.meanEntropy, 5);
    expect(line["durationMs"]).toBeGreaterThan(0);
  });

  test("a reply at half the gain, and an unsteered one", async () => {
    await stage.client.generateText(ask("hello", { as: PERSONA, gain: 0.5 }), { requestId: "half" });
    expect(await lineOf("half")).toMatchObject({ ...WORN, alpha: 0.2 });
    await stage.client.generateText(ask("hello"), { requestId: "plain" });
    const plain = { persona: null, revision: null, alpha: 0, layers: [], entropy: expect.any(Number) };
    expect(await lineOf("plain")).toMatchObject(plain);
  });

  test("a reply that its client cut short", async () => {
    const leave = new AbortController();
    const reply = stage.client.generateText(
      ask("hello", { as: PERSONA, maxTokens: 1_000_000 }),
      { requestId: "cut", signal: leave.signal },
      () => leave.abort(),
    );
    expect((await failureOf(reply)).reason).toBe("CANCELLED");
    expect(await lineOf("cut")).toMatchObject({ ...WORN, code: "CANCELLED", entropy: expect.any(Number) });
  });

  test("a score, and a capture", async () => {
    const persona = { selector: { case: "name" as const, value: PERSONA } };
    const continuations = [{ input: { case: "text" as const, value: "Your parcel is late." } }];
    const { continuations: scored } = await stage.client.score(
      { prompt: textPrompt("hello"), persona, continuations },
      { requestId: "score" },
    );
    const line = await lineOf("score");
    expect(line).toMatchObject({ ...WORN, code: "OK", continuations: 1 });
    const entropies = scored[0]?.steered?.entropies ?? [];
    expect(line["entropy"]).toBeCloseTo(entropies.reduce((sum, entropy) => sum + entropy, 0) / entropies.length, 5);
    const samples = [{ prompt: textPrompt("hello") }];
    await collect(
      stage.service.captureActivations({ samples, pooling: Pooling.LAST_PROMPT_TOKEN }, { requestId: "capture" }),
    );
    expect(await lineOf("capture")).toMatchObject({ alpha: 0, layers: [], samples: 1 });
  });

  test("a call that was refused, with the reason", async () => {
    await failureOf(
      stage.client.generateText(ask("hello", { as: personaName("acme", "nobody") }), { requestId: "refused" }),
    );
    expect(await lineOf("refused")).toMatchObject({ code: "NOT_FOUND", reason: "PERSONA_NOT_FOUND", tenant: "acme" });
  });
});

describe("no text of a client is ever in the log", () => {
  test("of prompts, replies, stop strings, continuations and samples, in calls that succeed and calls that fail", async () => {
    const { client, service } = stage;
    const replies: Reply[] = [];
    const say = async (...call: Parameters<typeof client.generateText>) =>
      void replies.push(await client.generateText(...call));
    const prompt = textPrompt(`${MARKER} in a text`);
    const chat = (role: string, content: string) => ({
      input: { case: "chat" as const, value: { messages: [{ role, content }] } },
    });
    const continuations = [{ input: { case: "text" as const, value: `${MARKER} in a continuation` } }];
    await say(ask(`${MARKER} in a chat`, { maxTokens: 60 }));
    await say(ask("", { prompt, maxTokens: 60, as: PERSONA, stop: [`${MARKER} stop`] }));
    await client.score({ prompt, continuations, tokenSets: [{ name: MARKER, ids: [5] }] });
    await collect(
      service.captureActivations({ samples: [{ prompt, response: `${MARKER} too` }], pooling: Pooling.RESPONSE_MEAN }),
    );

    const failing = [
      client.generateText(ask("", { prompt: textPrompt(`${MARKER} `.repeat(2000)) })),
      client.generateText(ask("", { prompt: chat(MARKER, MARKER) })),
      client.generateText(ask("", { prompt: chat("user", `${MARKER} `.repeat(9000)) })),
      client.generateText(ask(MARKER, { stop: [`${MARKER}`.repeat(9)] })),
      client.generateText(ask(MARKER, { as: personaName("acme", "nobody") })),
      client.generateText(ask(MARKER, { maxTokens: 0 })),
      client.generateText(ask(MARKER, { maxTokens: 1_000_000 }), { timeoutMs: 50 }),
      client.score({ prompt, continuations: [{}, ...continuations] }),
    ];
    await Promise.all(failing.map((call) => failureOf(call)));
    await until(() => stage.mesh.running.server.runningCalls === 0, "every call has ended");

    const log = written();
    expect(log).toContain("PROMPT_TOO_LONG");
    for (const form of [
      MARKER,
      Buffer.from(MARKER).toString("base64").slice(2, -4),
      Buffer.from(MARKER).toString("hex"),
    ]) {
      expect(log).not.toContain(form);
    }
    // Replies are in nobody's hand: any stretch of one that is long enough to be no coincidence.
    for (const { text } of replies) {
      expect(text.length).toBeGreaterThan(60);
      for (let at = 0; at + 20 <= text.length; at += 5) expect(log).not.toContain(text.slice(at, at + 20));
    }
  });
});
