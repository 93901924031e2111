import { connect } from "node:http2";
import { createConnection } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import type { InferenceClient } from "@persona-mesh/client";
import { GenerateRequestSchema, InferenceService, Pooling } from "@persona-mesh/protocol";
import { methodPath } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { personaName, writeTenant } from "../support/personas.ts";
import { ask, fingerprint, textPrompt } from "../support/requests.ts";
import { askServedModel } from "../support/served-model.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";

// One slot: whoever waits gets in only when it is free, and a small chunk makes a prompt take many steps.

const PERSONA = personaName("acme", "loud");

let mesh: TestWorker;
let client: InferenceClient;
let reference: ReturnType<typeof fingerprint>;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 1, chunkTokens: 16 });
  client = await mesh.client();
  const service = await mesh.client({ roles: ["service"] });
  const served = await askServedModel(service);
  await writeTenant(mesh.personasDir, "acme", served, [{ name: "loud", seed: 1, layers: [2, 3] }]);
  await until(async () => (await collect(client.listLoadedPersonas())).length === 1, "the persona is loaded");
  reference = await shortReply();
});

afterAll(() => mesh.close());

const figures = () => mesh.running.worker.engine.figures();
const table = () => mesh.running.worker.table.figures();

/** Longer than any test: it ends only because somebody ends it. */
const endless = { maxTokens: 1_000_000, as: PERSONA } as const;

async function shortReply() {
  return fingerprint(await client.generateText(ask("Where is my parcel?", { maxTokens: 6 })));
}

/**
 * The slot becomes free long before the reply would have ended by itself, serves the next one as if nothing had been, and
 * nothing is held.
 */
async function expectFree(): Promise<void> {
  let reached = 0;
  await until(() => {
    reached = Math.max(reached, figures().positions);
    return figures().running === 0;
  }, "the slot is free");
  expect(reached).toBeLessThan(900);
  expect(await shortReply()).toEqual(reference);
  await until(() => figures().running === 0, "the slot is free");
  expect(figures()).toMatchObject({ running: 0, waiting: 0, positions: 0 });
  expect(table()).toMatchObject({ rowsHeld: 0, heldPersonas: 0 });
}

test("a client that stops reading its stream: the one who waits gets the row", async () => {
  for await (const event of client.generate(ask("hello", endless))) {
    if (event.case !== "tokens") continue;
    expect(table().rowsHeld).toBe(2);
    break;
  }
  await expectFree();
});

test("a connection that breaks", async () => {
  const socket = createConnection(mesh.port, "127.0.0.1");
  const session = connect(`http://${mesh.address}`, { createConnection: () => socket });
  session.on("error", () => {});
  const message = toBinary(GenerateRequestSchema, create(GenerateRequestSchema, ask("hello", endless)));
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  const stream = session.request({
    ":method": "POST",
    ":path": methodPath(InferenceService.method.generate),
    "content-type": "application/grpc",
    te: "trailers",
    authorization: `Bearer ${await mesh.token()}`,
  });
  stream.on("error", () => {});
  stream.end(Buffer.concat([head, message]));
  await new Promise((resolve) => stream.once("data", resolve));
  expect(figures().running).toBe(1);
  // No goodbye: the socket is gone.
  socket.destroy();
  await expectFree();
});

test("a client that leaves in the middle of its prompt", async () => {
  const prompt = textPrompt("Where is my parcel? ".repeat(100));
  for await (const event of client.generate(ask("", { ...endless, prompt }))) {
    expect(event.case).toBe("started");
    expect(figures().prefilling).toBe(1);
    break;
  }
  await expectFree();
});

test("a client that leaves while it waits: those behind it move up", async () => {
  const running = client.generate(ask("hello", endless));
  await running.next();
  const leave = new AbortController();
  const waiting = client.generateText(ask("hello", endless), { signal: leave.signal });
  await until(() => figures().waiting === 1, "the second waits");
  const behind = shortReply();
  await until(() => figures().waiting === 2, "the third waits");
  leave.abort();
  expect((await failureOf(waiting)).reason).toBe("CANCELLED");
  await until(() => figures().waiting === 1, "the second is gone from the queue");
  await running.return();
  expect(await behind).toEqual(reference);
  await expectFree();
});

test("clients of Score and CaptureActivations that leave", async () => {
  const service = await mesh.client({ roles: ["service"] });
  const prompt = textPrompt("Where is my parcel? ".repeat(100));
  const leave = new AbortController();
  const continuations = Array.from({ length: 64 }, () => ({ input: { case: "text" as const, value: "hello there" } }));
  const scoring = client.score({ prompt, continuations }, { signal: leave.signal });
  await until(() => figures().running === 1, "scoring");
  leave.abort();
  expect((await failureOf(scoring)).reason).toBe("CANCELLED");
  await expectFree();

  const samples = Array.from({ length: 64 }, () => ({ prompt }));
  for await (const _ of service.captureActivations({ samples, pooling: Pooling.LAST_PROMPT_TOKEN })) break;
  await expectFree();
});

test("a client that does not read holds up nobody, and finds its whole reply when it does", async () => {
  const request = ask("hello", { maxTokens: 400, topLogProbs: 20 });
  const whole = fingerprint(await client.generateText(request));
  const unread = client.generate(request);
  const events = [await unread.next()];
  // The slot is free again though nothing was read: what waits for the reader is outside the batch.
  expect(await shortReply()).toEqual(reference);
  await until(() => figures().running === 0, "the reply is done");
  for (let event = await unread.next(); !event.done; event = await unread.next()) events.push(event);
  const tokens = events.flatMap(({ value }) => (value?.case === "tokens" ? value.value.tokens : []));
  expect(tokens.map(({ id }) => id)).toEqual(whole.ids);
  expect(events.at(-1)?.value?.case).toBe("finished");
});
