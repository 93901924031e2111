import { status } from "@grpc/grpc-js";
import type { GenerateEvent, InferenceClient } from "@persona-mesh/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { failureOf } from "../support/failure.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { until } from "../support/until.ts";

// Acme has limits of its own on a worker that has room for it; globex has none.

let stage: Stage;
let acme: InferenceClient;
let globex: InferenceClient;
let reference: ReturnType<typeof fingerprint>;

const PERSONAS = [{ name: "loud", seed: 1, layers: [2] }];
const endless = ask("hello", { maxTokens: 1_000_000 });

beforeAll(async () => {
  stage = await openStage({ slots: 4, queueCapacity: 32 }, PERSONAS);
  acme = stage.client;
  globex = await stage.mesh.client({ tenant: "globex" });
  reference = await shortReply(globex);
});

afterAll(() => stage.mesh.close());

const figures = () => stage.mesh.running.worker.engine.figures();
const limit = (serving: Readonly<Record<string, number>>) => stage.cast(PERSONAS, { serving });

async function shortReply(client: InferenceClient) {
  return fingerprint(await client.generateText(ask("Where is my parcel?", { maxTokens: 6 })));
}

/** A stream that runs until it is told to leave. */
async function occupy(client: InferenceClient): Promise<AsyncGenerator<GenerateEvent, void, undefined>> {
  const stream = client.generate(endless);
  await stream.next();
  return stream;
}

test("at maxRunning its next ones wait beside free slots, at maxWaiting they are refused; others are served at once", async () => {
  await limit({ maxRunning: 2, maxWaiting: 1 });
  const running = [await occupy(acme), await occupy(acme)];
  const waiting = shortReply(acme);
  await until(() => figures().waiting === 1, "the third waits");
  for (const call of [
    () => acme.generateText(endless),
    () => acme.score({ prompt: endless.prompt as object, tokenSets: [{ name: "a", ids: [5] }] }),
  ]) {
    const failure = await failureOf(call());
    expect(failure).toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      reason: "QUEUE_FULL",
      metadata: { whose: "tenant" },
    });
    expect(failure.retryDelayMs).toBeGreaterThan(0);
  }
  expect(await Promise.all([shortReply(globex), shortReply(globex)])).toEqual([reference, reference]);
  // Two slots are free, as they were all the while.
  await until(() => figures().running === 2, "globex has been served");
  expect(figures().waiting).toBe(1);
  await running[0]?.return();
  expect(await waiting).toEqual(reference);
  await running[1]?.return();
  await until(() => figures().running === 0, "nothing runs");
  expect(figures()).toMatchObject({ running: 0, waiting: 0 });
});

test("a call of more replies than may run and wait is refused whole; one that fits runs in parts", async () => {
  await limit({ maxRunning: 1, maxWaiting: 2 });
  const choices = async (n: number) => {
    const texts = new Map<number, number>();
    for await (const { event, choice } of acme.generateChoices({ ...ask("hello", { maxTokens: 4 }), n })) {
      expect(figures().running).toBeLessThanOrEqual(1);
      if (event.case === "finished") texts.set(choice, event.value.completionTokens);
    }
    return [...texts.values()];
  };
  expect(await failureOf(choices(4))).toMatchObject({ reason: "QUEUE_FULL", metadata: { whose: "tenant" } });
  await until(() => figures().running + figures().waiting === 0, "nothing of it is left");
  expect(await choices(3)).toEqual([4, 4, 4]);
});

test("over tokensPerMinute it is told when to come again; others are served, and it is once the limit is lifted", async () => {
  await limit({ tokensPerMinute: 600 });
  // What a reply may take is paid before it begins, and what it did not take is given back.
  const large = ask("hello", { maxTokens: 580 });
  const stream = acme.generate(large);
  await stream.next();
  const failure = await failureOf(acme.generateText(large));
  expect(failure).toMatchObject({ code: status.RESOURCE_EXHAUSTED, reason: "RATE_LIMITED" });
  expect(failure.retryDelayMs).toBeGreaterThan(1_000);
  expect(failure.retryDelayMs).toBeLessThanOrEqual(60_000);
  const score = acme.score({ prompt: ask("x ".repeat(100)).prompt as object, tokenSets: [{ name: "a", ids: [5] }] });
  expect((await failureOf(score)).reason).toBe("RATE_LIMITED");
  expect(await shortReply(globex)).toEqual(reference);
  await stream.return();
  await until(() => figures().running === 0, "the stream is gone");
  expect(await shortReply(acme)).toEqual(reference);
  expect((await failureOf(acme.generateText(large))).reason).toBe("RATE_LIMITED");
  await limit({});
  expect((await acme.generateText(large)).tokens).toHaveLength(580);
});
