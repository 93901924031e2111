import { status } from "@grpc/grpc-js";
import { ServiceError } from "@persona-mesh/service";
import { afterEach, describe, expect, it } from "vitest";
import { type GenerateInput, InferenceClient, type InferenceClientOptions } from "./client.ts";
import { proofOf, replyOf, type ScriptedWorker, startScriptedWorker, until } from "./testing/scripted-worker.ts";

const HELLO: GenerateInput = { prompt: { input: { case: "text", value: "hello" } } };

const open: (ScriptedWorker | InferenceClient)[] = [];
afterEach(async () => {
  for (const resource of open.splice(0).reverse()) {
    if (resource instanceof InferenceClient) resource.close();
    else await resource[Symbol.asyncDispose]();
  }
});

async function workerAnd(
  handlers: Parameters<typeof startScriptedWorker>[0],
  options: Partial<InferenceClientOptions> = {},
): Promise<{ worker: ScriptedWorker; client: InferenceClient }> {
  const worker = await startScriptedWorker(handlers);
  const token = await worker.token(["operator", "service"]);
  const client = new InferenceClient({ address: worker.address, token, ...options });
  open.push(worker, client);
  return { worker, client };
}

describe("generateText", () => {
  it("collects text, tokens and proof, and hands on the text piece by piece", async () => {
    const { client } = await workerAnd({
      generate: async function* () {
        yield* replyOf(["Hel", "lo", "!"], "tenants/acme/personas/cheerful");
      },
    });
    const pieces: string[] = [];
    const reply = await client.generateText(HELLO, {}, (text) => void pieces.push(text));
    expect(pieces).toEqual(["Hel", "lo", "!"]);
    expect(reply.text).toBe("Hello!");
    expect(reply.tokens.map(({ id }) => id)).toEqual([0, 1, 2]);
    expect(reply.started.persona?.name).toBe("tenants/acme/personas/cheerful");
    expect(reply.started.seed).toBe(7n);
    expect(reply.finished.completionTokens).toBe(3);
    expect(reply.firstTokenMillis).toBeLessThanOrEqual(reply.totalMillis);
  });

  it("keeps the personas that took over meanwhile", async () => {
    const [started, ...rest] = replyOf(["a", "b"]);
    const { client } = await workerAnd({
      generate: async function* () {
        if (started) yield started;
        const persona = proofOf("tenants/acme/personas/formal");
        yield { event: { case: "personaSwitched", value: { persona, afterTokens: 0, switchMicros: 12.5 } } };
        yield* rest;
      },
    });
    const { switches } = await client.generateText(HELLO);
    expect(switches.map(({ persona, switchMicros }) => [persona?.name, switchMicros])).toEqual([
      ["tenants/acme/personas/formal", 12.5],
    ]);
  });
});

describe("generateTexts", () => {
  const choice = (of: number, pieces: readonly string[]) => replyOf(pieces).map((event) => ({ ...event, choice: of }));

  it("puts interleaved events together by their choice", async () => {
    const [first, second] = [choice(0, ["a", "b"]), choice(1, ["c", "d", "e"])];
    const { client } = await workerAnd({
      generate: async function* () {
        for (let at = 0; at < second.length; at++)
          yield* [second[at], first[at]].filter((event) => event !== undefined);
      },
    });
    const replies = await client.generateTexts({ ...HELLO, n: 2 });
    expect(replies.map(({ text }) => text)).toEqual(["ab", "cde"]);
    expect(replies.map(({ finished }) => finished.completionTokens)).toEqual([2, 3]);
  });

  it("refuses a stream in which a choice has no end", async () => {
    const { client } = await workerAnd({
      generate: async function* () {
        yield* choice(0, ["a"]);
        yield* choice(1, ["b"]).slice(0, -1);
      },
    });
    await expect(client.generateTexts({ ...HELLO, n: 2 })).rejects.toMatchObject({ reason: "RESPONSE_INVALID" });
  });

  it("is for several replies: generate gives one", async () => {
    const { client } = await workerAnd({});
    await expect(client.generateText({ ...HELLO, n: 2 })).rejects.toThrow(RangeError);
  });

  it("joins a long prompt's log-probabilities, which come in pieces", async () => {
    const [started, ...rest] = replyOf(["a"]);
    const piece = (...ids: number[]) =>
      ({ event: { case: "promptLogProbs", value: { tokens: ids.map((id) => ({ id, logProb: -id })) } } }) as const;
    const { client } = await workerAnd({
      generate: async function* () {
        if (started) yield started;
        yield* [piece(1, 2), piece(3), ...rest];
      },
    });
    const [reply] = await client.generateTexts({ ...HELLO, promptLogProbs: true });
    expect(reply?.promptTokens.map(({ id, logProb }) => [id, logProb])).toEqual([
      [1, -1],
      [2, -2],
      [3, -3],
    ]);
  });
});

describe("generate", () => {
  it("cancels the call at the worker when the loop is left", async () => {
    let cancelled = false;
    const { client } = await workerAnd({
      generate: async function* (_request, { signal }) {
        signal.addEventListener("abort", () => {
          cancelled = true;
        });
        for (const [index, event] of replyOf(Array.from({ length: 10_000 }, () => "word ")).entries()) {
          if (signal.aborted) return;
          if (index > 5) await new Promise((resolve) => setTimeout(resolve, 5));
          yield event;
        }
      },
    });
    for await (const event of client.generate(HELLO)) if (event.case === "tokens") break;
    await until(() => cancelled, "the worker hears of the cancellation");
  });

  it("ends with CANCELLED when its signal fires, at both ends", async () => {
    let cancelled = false;
    const { client } = await workerAnd({
      generate: async function* (_request, { signal }) {
        yield* replyOf([]).slice(0, 1);
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
        cancelled = true;
      },
    });
    const abort = new AbortController();
    const read = async () => {
      for await (const event of client.generate(HELLO, { signal: abort.signal })) {
        if (event.case === "started") abort.abort();
      }
    };
    await expect(read()).rejects.toMatchObject({ code: status.CANCELLED, reason: "CANCELLED" });
    await until(() => cancelled, "the worker hears of the cancellation");
  });

  it("ends with DEADLINE_EXCEEDED when the worker is too slow", async () => {
    const { client } = await workerAnd({
      generate: async function* (_request, { signal }) {
        yield* replyOf([]).slice(0, 1);
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
      },
    });
    await expect(client.generateText(HELLO, { timeoutMs: 100 })).rejects.toMatchObject({
      code: status.DEADLINE_EXCEEDED,
    });
  });

  it.each([
    ["has no end", replyOf(["a"]).slice(0, -1)],
    ["has no start", replyOf(["a"]).slice(1)],
    ["starts twice", [...replyOf([]).slice(0, 1), ...replyOf([])]],
    ["goes on after its end", [...replyOf([]), ...replyOf(["a"]).slice(1, 2)]],
    ["is empty", []],
  ])("refuses a stream that %s", async (_, events) => {
    const { client } = await workerAnd({
      generate: async function* () {
        yield* events;
      },
    });
    await expect(client.generateText(HELLO)).rejects.toMatchObject({ reason: "RESPONSE_INVALID" });
  });

  it("passes the worker's reason, fields, retry delay and request id on", async () => {
    const { client } = await workerAnd({
      generate: () => {
        throw new ServiceError("QUEUE_FULL", "64 requests wait already", {
          fieldViolations: [{ field: "persona.name", description: "busy" }],
          retryDelayMs: 1500,
        });
      },
    });
    await expect(client.generateText(HELLO, { requestId: "req-9" })).rejects.toMatchObject({
      code: status.RESOURCE_EXHAUSTED,
      reason: "QUEUE_FULL",
      rawMessage: "64 requests wait already",
      fieldViolations: [{ field: "persona.name", description: "busy" }],
      retryDelayMs: 1500,
      requestId: "req-9",
    });
  });
});

describe("listLoadedPersonas", () => {
  it("reads every page", async () => {
    const asked: string[] = [];
    const { client } = await workerAnd({
      listLoadedPersonas: async ({ pageToken }) => {
        asked.push(pageToken);
        const page = pageToken === "" ? 1 : Number(pageToken);
        const personas = [{ proof: proofOf(`tenants/acme/personas/p${page}`), active: page === 2 }];
        return { personas, nextPageToken: page < 3 ? String(page + 1) : "" };
      },
    });
    const names: (string | undefined)[] = [];
    for await (const { proof } of client.listLoadedPersonas()) names.push(proof?.name.split("/").at(-1));
    expect(names).toEqual(["p1", "p2", "p3"]);
    expect(asked).toEqual(["", "2", "3"]);
  });

  it("refuses a list that does not end", async () => {
    const { client } = await workerAnd({
      listLoadedPersonas: async () => ({ personas: [], nextPageToken: "again" }),
    });
    const read = async () => {
      for await (const _ of client.listLoadedPersonas());
    };
    await expect(read()).rejects.toMatchObject({ reason: "RESPONSE_INVALID" });
  });
});

describe("token and address", () => {
  it("asks a token function before every call", async () => {
    const worker = await startScriptedWorker({ getModel: async () => ({ modelChecksum: "m1" }) });
    const tokens = ["forged", await worker.token(["viewer"])];
    const client = new InferenceClient({ address: worker.address, token: () => tokens.shift() ?? "none" });
    open.push(worker, client);
    await expect(client.getModel()).rejects.toMatchObject({ code: status.UNAUTHENTICATED, reason: "TOKEN_INVALID" });
    await expect(client.getModel()).resolves.toMatchObject({ modelChecksum: "m1" });
  });

  it("says UNAVAILABLE where nobody listens", async () => {
    const { worker, client } = await workerAnd({});
    await worker.server.kill();
    await expect(client.getModel()).rejects.toMatchObject({ code: status.UNAVAILABLE, reason: "UNAVAILABLE" });
  });

  it("never sends a token to another machine without TLS", () => {
    expect(() => new InferenceClient({ address: "worker.example:7400", token: "t" })).toThrow(
      expect.objectContaining({ reason: "CONFIG_INVALID" }),
    );
  });
});
