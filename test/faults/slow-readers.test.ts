import { once } from "node:events";
import { constants } from "node:http2";
import { setImmediate, setTimeout as sleep } from "node:timers/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { MAX_READER_PAUSE_MS } from "../../packages/service/src/grpc/limits.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";
import { openWireCall, type WireCall } from "../support/wire-call.ts";

// Clients that answer every ping and read nothing: their windows are closed.

const CALLS = 8;
const TOKENS = 300;
/** A reply far larger than what lies in windows and buffers. */
const LONG = 900;

/** What one token with all its alternatives may take of the heap while nobody reads it. It takes some 1,800. */
const MOST_BYTES_PER_TOKEN = 4_000;

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let mesh: TestWorker;
let token: string;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 4 });
  token = await mesh.token();
});
afterEach(() => {
  vi.useRealTimers();
});
afterAll(() => mesh.close());

const figures = () => mesh.running.worker.engine.figures();
const running = () => mesh.running.server.runningCalls;

/** @param window - bytes that its client takes before it reads. @default 0 */
function unread(maxTokens: number, window = 0): WireCall {
  return openWireCall(mesh.address, { token, request: ask("hello", { maxTokens, topLogProbs: 20 }), window });
}

/** Time for what is on its way to arrive. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await setImmediate();
}

async function heap(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    collectGarbage();
    await sleep(20);
  }
  return process.memoryUsage().heapUsed;
}

test("clients that read nothing hold bounded memory and no slot, and slow nobody's reply", async () => {
  const client = await mesh.client();
  const request = ask("hello", { maxTokens: TOKENS, topLogProbs: 20 });
  const reference = fingerprint(await client.generateText(request));
  const before = await heap();
  const calls = Array.from({ length: CALLS }, () => unread(TOKENS));
  await until(() => running() === CALLS, "the calls are there");
  // More of them than slots; whoever reads has its turn among them.
  expect(fingerprint(await client.generateText(request))).toEqual(reference);
  await until(() => figures().running + figures().waiting === 0, "the replies are written");
  expect(running()).toBe(CALLS);
  expect(await heap()).toBeLessThan(before + CALLS * TOKENS * MOST_BYTES_PER_TOKEN);
  for (const { session } of calls) session.destroy();
  await until(() => running() === 0, "the calls are gone");
  expect(await heap()).toBeLessThan(before + (CALLS * TOKENS * MOST_BYTES_PER_TOKEN) / 4);
});

test("a stream that nobody reads is reset after a minute, in its middle as at its end", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  // Of the second everything is written, but for its status.
  const calls = [unread(TOKENS), unread(2)];
  const closed = calls.map(({ stream }) => new Promise((resolve) => stream.once("close", resolve)));
  await Promise.all(calls.map(({ stream }) => once(stream, "response")));
  await vi.waitFor(() => expect([running(), figures().running]).toEqual([2, 0]), { timeout: 30_000 });
  await turns();
  vi.advanceTimersByTime(MAX_READER_PAUSE_MS);
  await vi.waitFor(() => expect(running()).toBe(0));
  await Promise.all(closed);
  for (const { stream } of calls) expect(stream.rstCode).toBe(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  expect(mesh.log().filter(({ reason }) => reason === "READER_STALLED")).toHaveLength(2);
});

test("one that reads slowly but steadily gets its whole reply, however long that takes", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  const { stream, trailers } = unread(LONG, 16_384);
  await once(stream, "readable");
  await vi.waitFor(() => expect(figures()).toMatchObject({ running: 0, waiting: 0 }), { timeout: 30_000 });
  let received = 0;
  let passed = 0;
  const read = async () => {
    for await (const bytes of stream) {
      received += (bytes as Buffer).length;
      // Longer in all than any one pause may be; what was taken is on its way first.
      await turns();
      passed += MAX_READER_PAUSE_MS / 2;
      vi.advanceTimersByTime(MAX_READER_PAUSE_MS / 2);
    }
  };
  await read();
  expect((await trailers)["grpc-status"]).toBe("0");
  expect(passed).toBeGreaterThan(MAX_READER_PAUSE_MS);
  expect(received).toBeGreaterThan(LONG * 100);
});
