import type { InferenceClient } from "@persona-mesh/client";
import { type Finished, GuardCause, type Started } from "@persona-mesh/protocol";
import { createLogger, startTracing, type Tracing } from "@persona-mesh/service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type OtlpReceiver,
  type ReceivedSpan,
  startOtlpReceiver,
} from "../../packages/service/src/testing/otlp-receiver.ts";
import { collect, failureOf } from "../support/failure.ts";
import { personaName, writeTenant } from "../support/personas.ts";
import { ask, textPrompt } from "../support/requests.ts";
import { askServedModel } from "../support/served-model.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";

/** In the prompt and nowhere else. */
const SECRET = "xylophone";
const CHEERFUL = personaName("acme", "cheerful");
const [INTERNAL, SERVER, CLIENT] = [1, 2, 3];
const CAUSES = new Map<number, string>(Object.entries(GuardCause).map(([name, cause]) => [cause, name.toLowerCase()]));

let collector: OtlpReceiver;
let tracing: Tracing | undefined;
let worker: TestWorker;
let client: InferenceClient;

beforeAll(async () => {
  collector = await startOtlpReceiver();
  // One process for both sides, and for spans of both: what goes between them are the call's metadata.
  tracing = await startTracing(
    { service: "telemetry-test", endpoint: collector.endpoint, exportIntervalMs: 50 },
    createLogger("test", "silent"),
  );
  worker = await openTestWorker({ slots: 2 });
  const served = await askServedModel(await worker.client({ roles: ["service"] }));
  await writeTenant(
    worker.personasDir,
    "acme",
    served,
    [
      { name: "cheerful", seed: 1, layers: [3] },
      // Far more than the model takes: the guard has to act.
      { name: "strong", seed: 3, layers: [1, 2], alpha: 0.8 },
    ],
    { context: "INTERNAL" },
  );
  client = await worker.client();
  await until(async () => (await collect(client.listLoadedPersonas())).length === 2, "the personas are in force");
});

afterAll(async () => {
  await worker.close();
  await tracing?.close();
  await collector.close();
});

/** The whole trace of a call, once its root is there: the client's span ends last. */
async function traceOf(requestId: string): Promise<ReceivedSpan[]> {
  const server = () => collector.spans.find(({ attributes }) => attributes["persona.request_id"] === requestId);
  const spans = () => collector.spans.filter(({ traceId }) => traceId === server()?.traceId);
  await until(() => spans().some(({ parentSpanId }) => parentSpanId === ""), `the trace of ${requestId}`);
  return spans();
}

/** How much a figure has grown, over all series with these labels. */
function growth(before: Map<string, number>, after: Map<string, number>) {
  return (name: string, ...labels: string[]) => {
    const of = (figures: Map<string, number>) =>
      [...figures]
        .filter(([key]) => key.split("{")[0] === name && labels.every((label) => key.includes(label)))
        .reduce((sum, [, value]) => sum + value, 0);
    return of(after) - of(before);
  };
}

/** Figures as they are now, by name and labels. */
async function scrape(): Promise<Map<string, number>> {
  const response = await fetch(`http://127.0.0.1:${worker.managementPort}/metrics`);
  const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]));
}

describe("the trace of one request", () => {
  test("goes from the client through the call to queue, prefill and decode, each within the one around it", async () => {
    const events = await collect(client.generate(ask(`Play the ${SECRET}.`, { as: CHEERFUL }), { requestId: "whole" }));
    const [started, finished] = [events[0]?.value as Started, events.at(-1)?.value as Finished];
    const spans = await traceOf("whole");
    const named = (name: string, kind: number) => {
      const found = spans.filter((span) => span.name === name && span.kind === kind);
      expect(found, name).toHaveLength(1);
      return found[0] as ReceivedSpan;
    };
    const call = "persona.inference.v1.InferenceService/Generate";
    const [root, server] = [named(call, CLIENT), named(call, SERVER)];
    const [queue, prefill, decode] = [named("queue", INTERNAL), named("prefill", INTERNAL), named("decode", INTERNAL)];
    expect(spans).toHaveLength(5);
    expect(root.parentSpanId).toBe("");
    expect(server.parentSpanId).toBe(root.spanId);
    for (const part of [queue, prefill, decode]) expect(part.parentSpanId).toBe(server.spanId);

    const moments = [root.start, server.start, queue.start, queue.end, prefill.end, decode.end, server.end, root.end];
    expect(moments).toEqual(moments.toSorted((a, b) => a - b));
    expect([prefill.start, decode.start]).toEqual([queue.end, prefill.end]);
    // Parts of one call leave little of it out: the rest is the way there and back.
    expect(decode.end - queue.start).toBeGreaterThan((server.end - server.start) / 2);

    expect(prefill.attributes).toMatchObject({ "gen_ai.usage.input_tokens": finished.promptTokens });
    expect(decode.attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.usage.input_tokens": finished.promptTokens,
      "gen_ai.usage.cache_read.input_tokens": 0,
      "gen_ai.usage.output_tokens": finished.completionTokens,
      "gen_ai.response.finish_reasons": ["max_tokens"],
      "persona.revision": started.persona?.revision,
      "persona.alpha": 0.4,
    });
    expect(spans.map(({ status }) => status)).toEqual([0, 0, 0, 0, 0]);
  });

  test("of a call that its client leaves ends where it was left", async () => {
    for await (const event of client.generate(ask("Go on and on.", { maxTokens: 400 }), { requestId: "left" })) {
      if (event.case === "tokens") break;
    }
    await until(() => collector.spans.some(({ name, status }) => name === "decode" && status === 2), "the lost part");
    const spans = await traceOf("left");
    expect(spans.find(({ name }) => name === "decode")).toMatchObject({
      status: 2,
      attributes: { "error.type": "CANCELLED", "gen_ai.response.finish_reasons": ["CANCELLED"] },
    });
    expect(spans.find(({ name }) => name === "prefill")).toMatchObject({ status: 0 });
  });

  test("holds no text of prompt and reply", async () => {
    const reply = await client.generateText(ask(`Tell ${SECRET}.`, { prompt: textPrompt(`Tell ${SECRET}.`) }));
    await failureOf(client.generateText(ask(SECRET, { maxTokens: 0 }), { requestId: "refused" }));
    await traceOf("refused");
    const sent = collector.bytes().toString("latin1");
    expect(sent).toContain("gen_ai.usage.output_tokens");
    expect(sent).not.toContain(SECRET);
    // No piece of the reply that could not be there by chance.
    for (const words of reply.text.match(/\S+ \S+ \S+/g) ?? []) expect(sent).not.toContain(words);
  });
});

test("figures count what was asked for", async () => {
  const before = await scrape();
  const chats = [1, 2, 3].map((seed) => client.generateText(ask("Hello", { as: CHEERFUL, seed: BigInt(seed) })));
  const text = await client.generateText(ask("", { prompt: textPrompt("Once"), maxTokens: 1 }));
  const replies = [...(await Promise.all(chats)), text];
  for await (const event of client.generate(ask("Go on", { maxTokens: 400 }))) if (event.case === "tokens") break;
  const cancelled = `persona_inference_replies_total{outcome="CANCELLED"}`;
  await until(
    async () => (await scrape()).get(cancelled) === (before.get(cancelled) ?? 0) + 1,
    "the end of a left call",
  );
  const after = await scrape();
  const grown = growth(before, after);
  const sum = (of: (finished: (typeof replies)[number]["finished"]) => number) =>
    replies.reduce((total, { finished }) => total + of(finished), 0);
  expect(grown("persona_inference_replies_total", `outcome="max_tokens"`)).toBe(4);
  expect(grown("gen_ai_server_request_duration_seconds_count")).toBe(5);
  expect(grown("gen_ai_server_request_duration_seconds_count", `error_type="CANCELLED"`)).toBe(1);
  expect(grown("gen_ai_server_time_to_first_token_seconds_count", `operation_name="chat"`)).toBe(3);
  expect(grown("gen_ai_server_time_to_first_token_seconds_count", `operation_name="text_completion"`)).toBe(1);
  // A reply of one token has none.
  expect(grown("gen_ai_server_time_per_output_token_seconds_count")).toBe(3);
  expect(grown("persona_inference_queue_duration_seconds_count")).toBe(5);
  const millis = (name: string) => grown(`persona_inference_${name}_duration_seconds_sum`) * 1000;
  expect(millis("queue")).toBeGreaterThanOrEqual(sum(({ queueMillis }) => queueMillis) - 1e-6);
  expect(millis("prefill")).toBeGreaterThanOrEqual(sum(({ prefillMillis }) => prefillMillis) - 1e-6);
  expect(millis("decode")).toBeGreaterThanOrEqual(sum(({ decodeMillis }) => decodeMillis) - 1e-6);
  const input = grown("gen_ai_client_token_usage_sum", `token_type="input"`);
  expect(input).toBeGreaterThan(sum(({ promptTokens }) => promptTokens));
  const output = grown("gen_ai_client_token_usage_sum", `token_type="output"`);
  expect(output).toBeGreaterThan(sum(({ completionTokens }) => completionTokens));
  expect(grown("persona_inference_table_hits_total") + grown("persona_inference_table_misses_total")).toBe(3);
  expect(after.get("persona_inference_requests_running")).toBe(0);
  expect(after.get("persona_inference_requests_waiting")).toBe(0);
  expect(after.get(`persona_inference_slots{state="free"}`)).toBe(2);
  expect(after.get("persona_inference_kv_utilization")).toBe(0);
});

test("reading the prompt's log-probabilities first is no time in the queue", async () => {
  const request = ask("Hello ".repeat(200), { maxTokens: 1, promptLogProbs: true });
  const begun = performance.now();
  const { finished } = await client.generateText(request, { requestId: "read-first" });
  const whole = performance.now() - begun;
  const queue = (await traceOf("read-first")).find(({ name }) => name === "queue") as ReceivedSpan;
  expect(queue.end - queue.start).toBeCloseTo(finished.queueMillis, 1);
  // The prompt is read twice, and the reply is one token: waiting would be about half of it.
  expect(finished.queueMillis).toBeLessThan(whole / 4);
});

test("what guard and twin found is in the trace and in the figures", async () => {
  const before = await scrape();
  const request = ask("Where is my parcel?", {
    as: personaName("acme", "strong"),
    maxTokens: 160,
    guard: { twin: true },
  });
  const { finished, started } = await client.generateText(request, { requestId: "guarded" });
  expect(finished.guardEvents.length).toBeGreaterThan(1);
  const decode = (await traceOf("guarded")).find(({ name }) => name === "decode") as ReceivedSpan;
  expect(decode.events.map(({ name, attributes }) => ({ name, ...attributes }))).toEqual(
    finished.guardEvents.map((event) => ({
      name: "guard",
      "persona.guard.cause": CAUSES.get(event.cause),
      "persona.guard.after_tokens": event.afterTokens,
      "persona.alpha.before": event.alphaBeforeHundredths / 100,
      "persona.alpha.after": event.alphaAfterHundredths / 100,
    })),
  );
  const moments = [decode.start, ...decode.events.map(({ at }) => at), decode.end];
  expect(moments).toEqual(moments.toSorted((a, b) => a - b));
  const { coherence, twin } = finished;
  expect(decode.attributes).toMatchObject({
    "persona.alpha": finished.effectiveAlphaHundredths / 100,
    "persona.coherence": expect.closeTo(coherence?.score ?? 0, 5),
    "persona.twin.kl": expect.closeTo(twin?.meanKl ?? 0, 4),
    "persona.twin.tokens": twin?.tokens,
  });

  const after = await scrape();
  const grown = growth(before, after);
  expect(grown("persona_inference_guard_events_total")).toBe(finished.guardEvents.length);
  expect(grown("persona_inference_twin_kl_count")).toBe(1);
  const [digest = ""] = started.persona?.versionDigests ?? [];
  const version = `{version="${digest.slice(0, 12)}"}`;
  expect(after.get(`persona_inference_coherence_replies_total${version}`)).toBe(1);
  expect(after.get(`persona_inference_coherence${version}`)).toBeCloseTo(coherence?.score ?? 0, 5);
});

test("figures show requests while they run and wait", async () => {
  const held = [1, 2, 3].map(() => client.generate(ask("Go on", { maxTokens: 400 }))[Symbol.asyncIterator]());
  const first = held.map((stream) => stream.next());
  await until(async () => (await scrape()).get("persona_inference_requests_waiting") === 1, "one waits");
  const figures = await scrape();
  expect(figures.get("persona_inference_requests_running")).toBe(2);
  expect(figures.get("persona_inference_kv_utilization")).toBeGreaterThan(0);
  expect(figures.get("persona_inference_kv_utilization")).toBeLessThan(1);
  await Promise.all(first.slice(0, 2));
  for (const stream of held) await stream.return?.(undefined as never);
  await until(async () => (await scrape()).get("persona_inference_requests_running") === 0, "all have left");
});

test("no figure names a tenant, a persona or a caller", async () => {
  const names = [...(await scrape()).keys()].join("\n");
  for (const secret of ["acme", "cheerful", "strong", "tester"]) expect(names).not.toContain(secret);
});
