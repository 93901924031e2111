import { createLogger, createMetrics, type Metrics } from "@persona-mesh/service";
import type { CoherenceScore } from "@persona-mesh/steering";
import { beforeEach, expect, test } from "vitest";
import { ReplyMetrics } from "./reply-metrics.ts";
import type { ServedReply } from "./served-reply.ts";
import { WorkerTelemetry } from "./worker-telemetry.ts";

let metrics: Metrics;
let replies: ReplyMetrics;

beforeEach(async () => {
  metrics = await createMetrics("test", createLogger("test", "silent"));
  replies = new ReplyMetrics(metrics, "cafe");
});

const REPLY: ServedReply = {
  operation: "chat",
  choice: 0,
  choices: 1,
  promptTokens: 40,
  cachedTokens: 16,
  replyTokens: 11,
  outcome: { kind: "finished", reason: "maxTokens" },
  times: { queued: 1_000, started: 1_030, firstToken: 1_130, ended: 1_330, preemptedMillis: 0 },
  persona: { revision: "r1", versionDigests: ["a".repeat(64)], effectiveAlphaHundredths: 35 },
  watched: { events: [], coherence: undefined, twin: undefined },
};

const COHERENCE: CoherenceScore = {
  score: 0.9,
  weakest: "repetition",
  parts: { entropy: 1, surprise: 1, repetition: 0.9 },
  entropyRatio: 1,
};

/** Lines of one figure, each without its name and what is the same in all. */
async function lines(name: string): Promise<string[]> {
  const text = await metrics.text();
  return text
    .split("\n")
    .filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `))
    .map((line) =>
      line
        .slice(name.length)
        .replace(/gen_ai_(provider_name="persona-mesh"|request_model="cafe"),?/g, "")
        .trim(),
    );
}

test("a reply is timed from the queue to its end, in the parts that it went through", async () => {
  replies.record(REPLY);
  const chat = `{gen_ai_operation_name="chat"}`;
  expect(await lines("gen_ai_server_time_to_first_token_seconds_sum")).toEqual([`${chat} 0.13`]);
  expect(await lines("gen_ai_server_time_per_output_token_seconds_sum")).toEqual([`${chat} 0.02`]);
  expect(await lines("gen_ai_server_request_duration_seconds_sum")).toEqual([`${chat} 0.33`]);
  expect(await lines("persona_inference_queue_duration_seconds_sum")).toEqual(["0.03"]);
  expect(await lines("persona_inference_prefill_duration_seconds_sum")).toEqual(["0.1"]);
  expect(await lines("persona_inference_decode_duration_seconds_sum")).toEqual(["0.2"]);
  expect(await lines("gen_ai_client_token_usage_sum")).toEqual([
    `{gen_ai_operation_name="chat",gen_ai_token_type="input"} 40`,
    `{gen_ai_operation_name="chat",gen_ai_token_type="output"} 11`,
  ]);
  expect(await lines("persona_inference_replies_total")).toEqual([`{outcome="max_tokens"} 1`]);
  expect(await metrics.text()).toContain(`gen_ai_request_model="cafe"`);
});

test("a reply that failed counts with its reason, and only where it got", async () => {
  const { started, firstToken, ...waited } = REPLY.times;
  replies.record({ ...REPLY, outcome: { kind: "failed", reason: "QUEUE_FULL" }, times: waited, replyTokens: 0 });
  replies.record({ ...REPLY, outcome: { kind: "failed", reason: "CANCELLED" } });
  expect(await lines("persona_inference_replies_total")).toEqual([
    `{outcome="QUEUE_FULL"} 1`,
    `{outcome="CANCELLED"} 1`,
  ]);
  expect(await lines("gen_ai_server_request_duration_seconds_count")).toEqual([
    expect.stringContaining(`error_type="QUEUE_FULL"`),
    expect.stringContaining(`error_type="CANCELLED"`),
  ]);
  expect(await lines("persona_inference_queue_duration_seconds_count")).toEqual(["1"]);
  expect(await lines("persona_inference_decode_duration_seconds_count")).toEqual(["1"]);
  expect(await lines("gen_ai_server_time_to_first_token_seconds_count")).toEqual([]);
  expect(await lines("persona_inference_coherence")).toEqual([]);
});

test("a reply of one token has no time per token", async () => {
  replies.record({ ...REPLY, replyTokens: 1 });
  expect(await lines("gen_ai_server_time_per_output_token_seconds_count")).toEqual([]);
  expect(await lines("gen_ai_server_time_to_first_token_seconds_count")).toHaveLength(1);
});

test("guard events count by cause and by whether they lowered alpha", async () => {
  const look = { entropyRatio: 1, repetition: 0.9, kl: undefined };
  const event = { ...look, at: 1_200, afterTokens: 5, alphaBeforeHundredths: 35, alphaAfterHundredths: 25 };
  const events = [
    { ...event, cause: "REPETITION" },
    { ...event, cause: "REPETITION" },
    { ...event, cause: "ENTROPY_LOW", alphaAfterHundredths: 35 },
  ] as const;
  replies.record({ ...REPLY, watched: { ...REPLY.watched, events } });
  expect(await lines("persona_inference_guard_events_total")).toEqual([
    `{cause="repetition",acted="true"} 2`,
    `{cause="entropy_low",acted="false"} 1`,
  ]);
});

test("coherence is by version, a mean that forgets, of the 64 versions that spoke last", async () => {
  const reply = (version: string, score: number) =>
    replies.record({
      ...REPLY,
      persona: { revision: "r1", versionDigests: [version], effectiveAlphaHundredths: 35 },
      watched: { ...REPLY.watched, coherence: { ...COHERENCE, score } },
    });
  const [old, steady] = ["0".repeat(64), "1".repeat(64)];
  for (let i = 0; i < 200; i++) reply(steady, 0.8);
  reply(old, 0.5);
  expect(await lines("persona_inference_coherence")).toEqual([
    `{version="${"1".repeat(12)}"} ${0.8}`,
    `{version="${"0".repeat(12)}"} 0.5`,
  ]);
  for (let i = 0; i < 200; i++) reply(steady, 0.2);
  const [, mean] = (await lines("persona_inference_coherence")).find((line) => line.includes("111"))?.split(" ") ?? [];
  expect(Number(mean)).toBeCloseTo(0.2, 2);
  expect(await lines("persona_inference_coherence_replies_total")).toContain(`{version="${"1".repeat(12)}"} 400`);
  for (let i = 0; i < 63; i++) reply(`${i}f`.padEnd(64, "e"), 0.9);
  const shown = await lines("persona_inference_coherence");
  expect(shown).toHaveLength(64);
  expect(shown.some((line) => line.includes("0".repeat(12)))).toBe(false);
  expect(shown.some((line) => line.includes("1".repeat(12)))).toBe(true);
});

test("divergence is that of replies that had a twin", async () => {
  replies.record(REPLY);
  replies.record({
    ...REPLY,
    watched: { ...REPLY.watched, twin: { tokens: 8, meanKl: 0.3, maxKl: 1, meanEntropyDifference: 0 } },
  });
  expect(await lines("persona_inference_twin_kl_count")).toEqual(["1"]);
  expect(await lines("persona_inference_twin_kl_sum")).toEqual(["0.3"]);
});

test("nothing that goes wrong with figures reaches the reply", () => {
  const logs: unknown[] = [];
  const telemetry = new WorkerTelemetry(
    metrics,
    { modelChecksum: "cafe" },
    { error: (...line: unknown[]) => void logs.push(line) },
  );
  const record = () => {
    throw new Error("no trace");
  };
  expect(() => telemetry.replied(REPLY, { record })).not.toThrow();
  expect(logs).toHaveLength(1);
});
