import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { ClientError } from "../errors/client-error.ts";
import { ServiceError } from "../errors/service-error.ts";
import { startTestServer, until } from "../testing/test-server.ts";

const token = (text: string) => ({ event: { case: "tokens" as const, value: { text } } });

/** Resolves when the signal fires, with its reason; a handler that waits for nothing else. */
function fired(signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(signal.reason);
    else signal.addEventListener("abort", () => resolve(signal.reason), { once: true });
  });
}

async function failure(promise: Promise<unknown>): Promise<ClientError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(ClientError);
  return error as ClientError;
}

/** A wire that can be cut. */
async function startProxy(port: number) {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
    }
    near.pipe(far).pipe(near);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  onTestFinished(async () => {
    cut();
    await new Promise((resolve) => server.close(resolve));
  });
  return { port: (server.address() as AddressInfo).port, cut };
}

async function readAll<Message>(stream: AsyncIterable<Message>): Promise<Message[]> {
  const all: Message[] = [];
  for await (const message of stream) all.push(message);
  return all;
}

describe("calls", () => {
  test("a unary call reaches its handler with the caller of its token, without the token", async () => {
    let seen: unknown;
    const mesh = await startTestServer({
      getModel: async (_, { caller, metadata }) => {
        seen = { ...caller, roles: [...caller.roles], authorization: metadata.get("authorization") };
        return { modelChecksum: "abc", layers: 4 };
      },
    });
    const client = await mesh.client({ roles: ["viewer"] });
    const model = await client.getModel({});
    expect([model.modelChecksum, model.layers]).toEqual(["abc", 4]);
    expect(seen).toEqual({ subject: "tester", tenant: "acme", roles: ["viewer"], authorization: [] });
  });

  test("each call is logged once, with its outcome, its tenant and what the handler added", async () => {
    const mesh = await startTestServer({
      getModel: async (_, context) => {
        context.annotate({ alpha: 0.35 });
        context.annotate({ layers: [3, 4] });
        throw new ServiceError("QUEUE_FULL", "full");
      },
    });
    const client = await mesh.client();
    await failure(client.getModel({}, { requestId: "from-the-test" }));
    await until(() => mesh.logs.some((line) => line["msg"] === "call ended"), "the log line");
    const lines = mesh.logs.filter((line) => line["msg"] === "call ended");
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatchObject({
      level: "info",
      method: "/persona.inference.v1.InferenceService/GetModel",
      code: "RESOURCE_EXHAUSTED",
      reason: "QUEUE_FULL",
      tenant: "acme",
      subject: "tester",
      requestId: "from-the-test",
      alpha: 0.35,
      layers: [3, 4],
      durationMs: expect.any(Number),
    });
    expect(JSON.stringify(mesh.logs)).not.toContain(await mesh.token());
  });

  test("a stream arrives whole and in order", async () => {
    const mesh = await startTestServer({
      async *generate({ maxTokens = 0 }) {
        for (let i = 0; i < maxTokens; i++) yield token(`${i}`);
      },
    });
    const responses = await readAll((await mesh.client()).generate({ maxTokens: 500 }));
    expect(responses.map(({ event }) => event.case === "tokens" && event.value.text)).toEqual(
      Array.from({ length: 500 }, (_, i) => `${i}`),
    );
  });
});

describe("errors", () => {
  test("everything an error says arrives, but not its cause", async () => {
    const mesh = await startTestServer({
      getModel: async () => {
        throw new ServiceError("QUEUE_FULL", "acme has 8 requests waiting", {
          metadata: { waiting: "8" },
          fieldViolations: [{ field: "persona.gain", description: "over 1", reason: "ALPHA_OVER_CAP" }],
          retryDelayMs: 1250,
          cause: new Error("the secret cause"),
        });
      },
    });
    const error = await failure((await mesh.client()).getModel({}, { requestId: "r-1" }));
    expect(error).toMatchObject({
      message: "RESOURCE_EXHAUSTED [QUEUE_FULL] acme has 8 requests waiting",
      rawMessage: "acme has 8 requests waiting",
      reason: "QUEUE_FULL",
      metadata: { waiting: "8", requestId: "r-1" },
      fieldViolations: [{ field: "persona.gain", description: "over 1", reason: "ALPHA_OVER_CAP" }],
      retryDelayMs: 1250,
      requestId: "r-1",
    });
  });

  test("a defect tells the caller only the request id, and the log its cause", async () => {
    const mesh = await startTestServer({
      getModel: async () => {
        throw new TypeError("slots[3] is undefined");
      },
    });
    const error = await failure((await mesh.client()).getModel({}));
    expect(error.reason).toBe("INTERNAL");
    expect(error.rawMessage).not.toContain("slots");
    expect(error.requestId).toMatch(/^[0-9A-Z]{26}$/);
    const line = mesh.logs.find(({ msg }) => msg === "call failed by a defect");
    expect(line).toMatchObject({
      level: "error",
      requestId: error.requestId,
      err: { message: "slots[3] is undefined" },
    });
  });

  test("a response that is not what the proto says is a defect", async () => {
    const mesh = await startTestServer({ getModel: async () => ({ layers: -1 }) });
    expect((await failure((await mesh.client()).getModel({}))).reason).toBe("INTERNAL");
  });

  test("what a stream yielded before its error arrives before it", async () => {
    const mesh = await startTestServer({
      async *generate() {
        for (let i = 0; i < 100; i++) yield token("x");
        throw new ServiceError("STEERING_OVERFLOW", "alpha 0.8 at layer 3", { metadata: { layer: "3" } });
      },
    });
    let received = 0;
    const error = await failure(
      (async () => {
        for await (const _ of (await mesh.client()).generate({})) received++;
      })(),
    );
    expect([received, error.reason, error.metadata["layer"]]).toEqual([100, "STEERING_OVERFLOW", "3"]);
  });

  test("a message of any text and size fits into the headers", async () => {
    const long = "\ud800 ünïcödé\n%".repeat(10_000);
    const violation = { field: long, description: long };
    const mesh = await startTestServer({
      getModel: async () => {
        throw new ServiceError("INVALID_ARGUMENT", long, {
          metadata: Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`${i}${long}`, long])),
          fieldViolations: Array.from({ length: 100 }, () => violation),
        });
      },
    });
    const error = await failure((await mesh.client()).getModel({}));
    expect(error.reason).toBe("INVALID_ARGUMENT");
    expect(error.rawMessage).toMatch(/^� ünïcödé\n%.*…$/s);
    expect(error.fieldViolations).toHaveLength(8);
  });

  test("a response over the limit ends the call and its handler", async () => {
    let reason: unknown;
    const mesh = await startTestServer({
      async *generate(_, { signal }) {
        try {
          yield token("x".repeat(5 * 1024 * 1024));
          yield token("never");
        } finally {
          reason = signal.reason;
        }
      },
    });
    const error = await failure(readAll((await mesh.client()).generate({})));
    expect(error.reason).toBe("MESSAGE_TOO_LARGE");
    await until(() => reason instanceof ServiceError, "the handler's end");
  });
});

describe("ends", () => {
  test("a client that cancels mid-stream frees the handler", async () => {
    let reason: unknown;
    const mesh = await startTestServer({
      async *generate(_, { signal }) {
        try {
          yield token("first");
          await fired(signal);
        } finally {
          reason = signal.reason;
        }
      },
    });
    const client = await mesh.client();
    const abort = new AbortController();
    const error = await failure(
      (async () => {
        for await (const _ of client.generate({}, { signal: abort.signal })) abort.abort();
      })(),
    );
    expect(error.reason).toBe("CANCELLED");
    await until(() => reason !== undefined, "the handler's end");
    expect(reason).toMatchObject({ reason: "CANCELLED" });
    await until(() => mesh.server.runningCalls === 0, "no running call");
    expect(mesh.logs.at(-1)).toMatchObject({ msg: "call ended", code: "CANCELLED" });
  });

  test("leaving the loop cancels the call at the server", async () => {
    let ended = false;
    const mesh = await startTestServer({
      async *generate() {
        try {
          while (true) yield token("x");
        } finally {
          ended = true;
        }
      },
    });
    for await (const _ of (await mesh.client()).generate({})) break;
    await until(() => ended, "the handler's end");
  });

  test("closing the client cancels its calls", async () => {
    let reason: unknown;
    const mesh = await startTestServer({
      async *generate(_, { signal }) {
        yield token("first");
        reason = await fired(signal);
      },
    });
    const client = await mesh.client();
    const stream = client.generate({})[Symbol.asyncIterator]();
    await stream.next();
    const rest = failure(stream.next());
    client.close();
    expect((await rest).reason).toBe("CANCELLED");
    await until(() => reason !== undefined, "the signal");
  });

  test("a client whose connection breaks frees the handler, and learns of it", async () => {
    let ended = false;
    const mesh = await startTestServer({
      async *generate(_, { signal }) {
        yield token("first");
        await fired(signal);
        ended = true;
      },
    });
    const wire = await startProxy(mesh.server.port);
    const client = await mesh.client({ address: `127.0.0.1:${wire.port}` });
    const stream = client.generate({})[Symbol.asyncIterator]();
    await stream.next();
    const rest = failure(stream.next());
    wire.cut();
    expect((await rest).reason).toBe("UNAVAILABLE");
    await until(() => ended, "the handler's end");
    expect(mesh.logs.at(-1)).toMatchObject({ msg: "call ended", code: "CANCELLED" });
  });

  test("a server that is not there is unavailable", async () => {
    const mesh = await startTestServer();
    const client = await mesh.client();
    await mesh.server.kill();
    const error = await failure(client.getModel({}));
    expect([error.reason, error.requestId]).toEqual(["UNAVAILABLE", undefined]);
  });

  test("a unary call can be cancelled by its client", async () => {
    let reason: unknown;
    const mesh = await startTestServer({
      getModel: async (_, { signal }) => {
        abort.abort();
        reason = await fired(signal);
        return {};
      },
    });
    const abort = new AbortController();
    const error = await failure((await mesh.client()).getModel({}, { signal: abort.signal }));
    expect(error.reason).toBe("CANCELLED");
    await until(() => reason !== undefined, "the signal");
  });

  test("a call that is cancelled before it starts is not made", async () => {
    const mesh = await startTestServer();
    const client = await mesh.client();
    expect((await failure(client.getModel({}, { signal: AbortSignal.abort() }))).reason).toBe("CANCELLED");
    expect((await failure(readAll(client.generate({}, { signal: AbortSignal.abort() })))).reason).toBe("CANCELLED");
    expect(mesh.logs.filter(({ msg }) => msg === "call ended")).toEqual([]);
  });

  test("a handler that fails after its call was over is logged, not lost", async () => {
    const mesh = await startTestServer({
      getModel: async (_, { signal }) => {
        await fired(signal);
        throw new TypeError("broken clean-up");
      },
    });
    await failure((await mesh.client()).getModel({}, { timeoutMs: 50 }));
    await until(() => mesh.server.runningCalls === 0, "no running call");
    expect(mesh.logs).toContainEqual(
      expect.objectContaining({ level: "warn", err: expect.objectContaining({ message: "broken clean-up" }) }),
    );
  });

  test("a slow reader makes the handler wait: what is in between is bounded", async () => {
    let made = 0;
    const mesh = await startTestServer({
      async *generate() {
        // 10 KB a message: the 64 KiB of an HTTP/2 window hold six.
        for (; made < 10_000; made++) yield token("x".repeat(10_000));
      },
    });
    const stream = (await mesh.client()).generate({})[Symbol.asyncIterator]();
    await stream.next();
    // Wait until the server stops making messages by itself.
    for (let before = -1; before !== made; ) {
      before = made;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    expect(made).toBeGreaterThan(6);
    expect(made).toBeLessThan(200);
    const stalledAt = made;
    for (let i = 0; i < 300; i++) await stream.next();
    expect(made).toBeGreaterThan(stalledAt);
    await stream.return?.();
  });
});

describe("deadlines", () => {
  const forever = {
    getModel: async (_: unknown, { signal }: { signal: AbortSignal }) => {
      throw await fired(signal);
    },
    async *generate(_: unknown, { signal }: { signal: AbortSignal }) {
      yield token("first");
      throw await fired(signal);
    },
  };

  test("the client's deadline ends the call and the handler on the server too", async () => {
    const mesh = await startTestServer(forever);
    const error = await failure((await mesh.client()).getModel({}, { timeoutMs: 150 }));
    expect(error.reason).toBe("DEADLINE_EXCEEDED");
    await until(() => mesh.server.runningCalls === 0, "no running call");
  });

  test("a call without a deadline gets the server's default, by its kind", async () => {
    const mesh = await startTestServer(forever, { unaryDefaultSeconds: 0.05, streamDefaultSeconds: 0.2 });
    const client = await mesh.client();
    const started = performance.now();
    expect((await failure(readAll(client.generate({})))).rawMessage).toBe("the call did not end within 200 ms");
    expect(performance.now() - started).toBeGreaterThanOrEqual(195);
    const error = await failure(client.getModel({}, { timeoutMs: Number.POSITIVE_INFINITY }));
    expect(error.rawMessage).toBe("the call did not end within 50 ms");
  });

  test("no client gets more than the server's maximum", async () => {
    let deadline = 0;
    const mesh = await startTestServer(
      {
        getModel: async (_, context) => {
          deadline = context.deadline;
          throw await fired(context.signal);
        },
      },
      { unaryDefaultSeconds: 0.1, unaryMaxSeconds: 0.1 },
    );
    const before = Date.now();
    const error = await failure((await mesh.client()).getModel({}, { timeoutMs: 60_000 }));
    expect(error.rawMessage).toBe("the call did not end within 100 ms");
    expect(deadline - before).toBeLessThan(1_000);
  });

  test("a handler that ignores its signal does not hold up the caller", async () => {
    const mesh = await startTestServer({ getModel: () => new Promise(() => {}) });
    const error = await failure((await mesh.client()).getModel({}, { timeoutMs: 50 }));
    expect(error.reason).toBe("DEADLINE_EXCEEDED");
  });
});

describe("limits", () => {
  test("calls over the limit are refused at once, and let in again when one has ended", async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const mesh = await startTestServer(
      { getModel: () => held.then(() => ({ modelChecksum: "done" })) },
      { maxCalls: 2 },
    );
    const client = await mesh.client();
    const running = [client.getModel({}), client.getModel({})];
    await until(() => mesh.server.runningCalls === 2, "two running calls");
    const error = await failure(client.getModel({}));
    expect([error.reason, error.retryDelayMs]).toEqual(["SERVER_BUSY", 500]);
    release();
    await Promise.all(running);
    await until(() => mesh.server.runningCalls === 0, "no running call");
    expect((await client.getModel({})).modelChecksum).toBe("done");
  });

  test("an unusable request id is replaced, not echoed", async () => {
    const mesh = await startTestServer({
      getModel: async () => {
        throw new ServiceError("QUEUE_FULL", "full");
      },
    });
    const error = await failure((await mesh.client()).getModel({}, { requestId: "x".repeat(65) }));
    expect(error.requestId).toMatch(/^[0-9A-Z]{26}$/);
  });

  test("a token goes to another machine only with TLS", async () => {
    const { createClient } = await import("./client.ts");
    const { credentials } = await import("@grpc/grpc-js");
    const { InferenceService } = await import("@persona-mesh/protocol");
    const create = (address: string) =>
      createClient(InferenceService, address, credentials.createInsecure(), { token: "t" }).close();
    expect(() => create("worker.example:7070")).toThrow("needs TLS");
    expect(() => create("127.0.0.1.example:7070")).toThrow("needs TLS");
    expect(() => create("localhost:7070")).not.toThrow();
    expect(() => create("[::1]:7070")).not.toThrow();
  });
});
