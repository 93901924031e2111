import { status } from "@grpc/grpc-js";
import type { GenerateEvent } from "@persona-mesh/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { failureOf } from "../support/failure.ts";
import { personaName } from "../support/personas.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { openTestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";

const PERSONA = personaName("acme", "loud");

let stage: Stage;

beforeAll(async () => {
  // Of a waiting room of four, one tenant alone has two places.
  stage = await openStage({ slots: 1, queueCapacity: 4, chunkTokens: 16 }, [{ name: "loud", seed: 1, layers: [2, 3] }]);
});

afterAll(() => stage.mesh.close());

const figures = () => stage.mesh.running.worker.engine.figures();
const held = () => stage.mesh.running.worker.table.figures().rowsHeld;
const endless = ask("hello", { maxTokens: 1_000_000, as: PERSONA });

/** A stream in the only slot, until it is told to leave. */
async function occupy(): Promise<AsyncGenerator<GenerateEvent, void, undefined>> {
  const stream = stage.client.generate(endless);
  await stream.next();
  expect(figures().running).toBe(1);
  return stream;
}

async function expectIdle(): Promise<void> {
  await until(() => figures().running === 0, "nothing runs");
  expect(figures()).toMatchObject({ running: 0, waiting: 0 });
  expect(held()).toBe(0);
}

test("a full queue refuses the next one with QUEUE_FULL and when to come again; those in it are served in their order", async () => {
  const running = await occupy();
  const order: number[] = [];
  const waiting = [0, 1].map(async (index) => {
    const reply = await stage.client.generateText(ask("hello", { maxTokens: 2 }));
    order.push(index);
    return fingerprint(reply);
  });
  await until(() => figures().waiting === 2, "the queue is full");
  for (const call of [
    () => stage.client.generateText(endless),
    () => stage.client.score({ prompt: ask("hello").prompt as object, tokenSets: [{ name: "a", ids: [5] }] }),
  ]) {
    const failure = await failureOf(call());
    expect(failure).toMatchObject({ code: status.RESOURCE_EXHAUSTED, reason: "QUEUE_FULL" });
    expect(failure.retryDelayMs).toBeGreaterThan(0);
  }
  expect(figures().waiting).toBe(2);
  await running.return();
  const [first, second] = await Promise.all(waiting);
  expect(order).toEqual([0, 1]);
  expect(second).toEqual(first);
  await expectIdle();
});

test("a call of more replies than there is room for is refused whole, and nothing of it runs", async () => {
  const seen: string[] = [];
  const whole = async () => {
    for await (const { event } of stage.client.generateChoices({ ...endless, n: 16 })) seen.push(event.case);
  };
  expect(await failureOf(whole())).toMatchObject({ reason: "QUEUE_FULL" });
  expect(seen).toEqual([]);
  await expectIdle();
});

test("a deadline that passes while the call waits: it leaves the queue", async () => {
  const running = await occupy();
  const late = failureOf(stage.client.generateText(endless, { timeoutMs: 300 }));
  await until(() => figures().waiting === 1, "it waits");
  expect(await late).toMatchObject({ code: status.DEADLINE_EXCEEDED, reason: "DEADLINE_EXCEEDED" });
  await until(() => figures().waiting === 0, "it waits no more");
  expect(figures().running).toBe(1);
  await running.return();
  await expectIdle();
});

test("a deadline that passes while the call runs: its slot and its rows are free", async () => {
  const begun: GenerateEvent[] = [];
  const call = async () => {
    for await (const event of stage.client.generate(endless, { timeoutMs: 250 })) begun.push(event);
  };
  expect(await failureOf(call())).toMatchObject({ code: status.DEADLINE_EXCEEDED, reason: "DEADLINE_EXCEEDED" });
  expect(begun.filter((event) => event.case === "tokens").length).toBeGreaterThan(0);
  await expectIdle();
  expect(fingerprint(await stage.client.generateText(ask("hello", { as: PERSONA })))).toEqual(
    fingerprint(await stage.client.generateText(ask("hello", { as: PERSONA }))),
  );
});

test("a client that sets no deadline gets the server's, which the server tells it", async () => {
  const strict = await openTestWorker({
    slots: 1,
    streamDefaultSeconds: 0.2,
    streamMaxSeconds: 0.2,
    unaryDefaultSeconds: 0.05,
    unaryMaxSeconds: 0.05,
  });
  try {
    const client = await strict.client({}, { timeoutMs: Number.POSITIVE_INFINITY });
    const failure = await failureOf(client.generateText(ask("hello", { maxTokens: 1_000_000 })));
    // Told by the server: it has an id.
    expect(failure).toMatchObject({ reason: "DEADLINE_EXCEEDED", requestId: expect.any(String) });
    const continuations = Array.from({ length: 64 }, () => ({
      input: { case: "text" as const, value: "x ".repeat(400) },
    }));
    const scored = await failureOf(client.score({ prompt: ask("hello").prompt as object, continuations }));
    expect(scored).toMatchObject({ reason: "DEADLINE_EXCEEDED", requestId: expect.any(String) });
    await until(() => strict.running.worker.engine.figures().running === 0, "nothing runs");
    expect(strict.running.worker.engine.figures()).toMatchObject({ running: 0, waiting: 0 });
  } finally {
    await strict.close();
  }
});
