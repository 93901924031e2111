import { status } from "@grpc/grpc-js";
import { Pooling } from "@persona-mesh/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { ask, fingerprint, textPrompt } from "../support/requests.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";
import { openWireCall } from "../support/wire-call.ts";

let mesh: TestWorker;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 1 });
});
afterAll(() => mesh.close());

async function expectIdle(): Promise<void> {
  const { engine } = mesh.running.worker;
  await until(() => mesh.running.server.runningCalls === 0, "no call is left");
  await until(() => engine.figures().running === 0, "nothing runs");
  expect(engine.figures()).toMatchObject({ running: 0, waiting: 0, positions: 0 });
}

test.each(["0m", "0n", "0S", "00000000H"])("a deadline of %s is over before anything runs", async (timeout) => {
  const token = await mesh.token();
  const request = ask("hello", { maxTokens: 1_000_000 });
  const { stream, trailers } = openWireCall(mesh.address, { token, request, headers: { "grpc-timeout": timeout } });
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
  });
  expect((await trailers)["grpc-status"]).toBe(String(status.DEADLINE_EXCEEDED));
  expect(bytes).toBe(0);
  await expectIdle();
});

test("every call of a client without time is told so, and the next ones are served as ever", async () => {
  const client = await mesh.client({ roles: ["operator", "service"] });
  const reference = fingerprint(await client.generateText(ask("hello")));
  const none = { timeoutMs: 0 };
  const prompt = textPrompt("hello");
  const samples = [{ prompt }];
  const tokenSets = [{ name: "a", ids: [5] }];
  const calls = [
    () => client.generateText(ask("hello"), none),
    () => client.score({ prompt, tokenSets }, none),
    () => collect(client.captureActivations({ samples, pooling: Pooling.LAST_PROMPT_TOKEN }, none)),
    () => client.getModel(none),
    () => collect(client.listLoadedPersonas(none)),
  ];
  for (const failure of await Promise.all(calls.map((call) => failureOf(call())))) {
    expect(failure).toMatchObject({ code: status.DEADLINE_EXCEEDED, reason: "DEADLINE_EXCEEDED" });
  }
  await expectIdle();
  expect(fingerprint(await client.generateText(ask("hello")))).toEqual(reference);
});
