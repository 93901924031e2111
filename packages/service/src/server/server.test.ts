import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { credentials, makeClientConstructor, type ServiceClientConstructor } from "@grpc/grpc-js";
import { InferenceService } from "@persona-mesh/protocol";
import { service as healthService } from "grpc-health-check";
import { describe, expect, onTestFinished, test } from "vitest";
import { ClientError } from "../errors/client-error.ts";
import { type Client, createClient } from "../grpc/client.ts";
import { startTestServer, type TestServer, until } from "../testing/test-server.ts";

const token = (text: string) => ({ event: { case: "tokens" as const, value: { text } } });

/** Rejects with the signal's reason when it fires. */
function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

async function reasonOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
    return "OK";
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    return error.reason;
  }
}

/** A stream that is running: its first message has arrived. */
async function openStream(client: Client<typeof InferenceService>) {
  const stream = client.generate({})[Symbol.asyncIterator]();
  await stream.next();
  return stream;
}

const management = async (mesh: TestServer, path: string) => {
  const response = await fetch(`http://127.0.0.1:${mesh.server.managementPort}${path}`);
  return [response.status, (await response.text()).trim()];
};

describe("health", () => {
  // The generated client of grpc.health.v1, as probes use it; its methods are not typed.
  const HealthClient = makeClientConstructor(
    healthService as never,
    "grpc.health.v1.Health",
  ) as ServiceClientConstructor;
  const check = (address: string, service: string) => {
    const client = new HealthClient(address, credentials.createInsecure());
    return new Promise<string>((resolve) => {
      client["check"]?.({ service }, (error: { code: number } | null, response: { status: string }) => {
        client.close();
        resolve(error === null ? response.status : String(error.code));
      });
    });
  };

  test("a server without what it needs says so on both ports, and tries calls all the same", async () => {
    let isFit = true;
    const mesh = await startTestServer({}, {}, { isFit: () => isFit });
    const { address } = mesh.server;
    const shown = async () => [await check(address, ""), ...(await management(mesh, "/readyz"))];
    expect(await shown()).toEqual(["SERVING", 200, "ready"]);
    isFit = false;
    await expect.poll(shown, { timeout: 5_000 }).toEqual(["NOT_SERVING", 503, "unfit"]);
    expect(await reasonOf((await mesh.client()).getModel({}))).toBe("OK");
    isFit = true;
    await expect.poll(shown, { timeout: 5_000 }).toEqual(["SERVING", 200, "ready"]);
  });

  test("a process that can do its work no more says that it needs a new start", async () => {
    let isAlive = true;
    const mesh = await startTestServer({}, {}, { isAlive: () => isAlive });
    expect(await management(mesh, "/healthz")).toEqual([200, "ok"]);
    isAlive = false;
    expect(await management(mesh, "/healthz")).toEqual([503, "broken"]);
  });

  test("starting, serving and draining show on both ports, and calls get the matching reason", async () => {
    let becomeReady = () => {};
    const ready = new Promise<void>((resolve) => {
      becomeReady = resolve;
    });
    const mesh = await startTestServer(
      {
        async *generate(_, { signal }) {
          yield token("first");
          await untilAborted(signal);
        },
      },
      { drainSeconds: 0.5 },
      { ready },
    );
    const { address } = mesh.server;
    const client = await mesh.client();
    const both = () =>
      Promise.all([check(address, ""), check(address, InferenceService.typeName), management(mesh, "/readyz")]);

    expect(await both()).toEqual(["NOT_SERVING", "NOT_SERVING", [503, "starting"]]);
    expect(await reasonOf(client.getModel({}))).toBe("NOT_READY");
    expect(await management(mesh, "/healthz")).toEqual([200, "ok"]);

    becomeReady();
    await until(() => mesh.logs.some(({ msg }) => msg === "serving"), "serving");
    expect(await both()).toEqual(["SERVING", "SERVING", [200, "ready"]]);
    expect(await reasonOf(client.getModel({}))).toBe("OK");

    const stream = await openStream(client);
    const closed = mesh.server.close();
    expect(await both()).toEqual(["NOT_SERVING", "NOT_SERVING", [503, "draining"]]);
    expect(await reasonOf(client.getModel({}))).toBe("DRAINING");
    expect(await reasonOf(stream.next())).toBe("DRAINING");
    await closed;
  });

  test("a service that is not here is unknown, and watching such names holds nothing", async () => {
    const mesh = await startTestServer();
    expect(await check(mesh.server.address, "no.such.Service")).toBe("5");
    const client = new HealthClient(mesh.server.address, credentials.createInsecure());
    const codes = await Promise.all(
      Array.from(
        { length: 50 },
        (_, i) =>
          new Promise((resolve) => {
            const call = client["watch"]?.({ service: `no.such.Service${i}` });
            call.on("data", () => {});
            call.on("error", (error: { code: number }) => resolve(error.code));
          }),
      ),
    );
    client.close();
    expect(new Set(codes)).toEqual(new Set([5]));
  });

  test("a watcher hears of changes, and does not hold up the drain", async () => {
    const mesh = await startTestServer({}, { drainSeconds: 60 });
    const client = new HealthClient(mesh.server.address, credentials.createInsecure());
    const heard: string[] = [];
    const call = client["watch"]?.({ service: "" });
    call.on("data", ({ status }: { status: string }) => heard.push(status));
    call.on("error", (error: { details: string }) => heard.push(error.details));
    await until(() => heard.length === 1, "the first status");
    await mesh.server.close();
    await until(() => heard.length === 3, "the end of the watch");
    expect(heard).toEqual(["SERVING", "NOT_SERVING", "the server is shutting down"]);
    client.close();
  });

  test("open watches are bounded: they need no token", async () => {
    const mesh = await startTestServer();
    const client = new HealthClient(mesh.server.address, credentials.createInsecure());
    const results: string[] = [];
    for (let i = 0; i < 140; i++) {
      const call = client["watch"]?.({ service: "" });
      call.on("data", ({ status }: { status: string }) => results.push(status));
      call.on("error", (error: { details: string }) => results.push(error.details));
    }
    await until(() => results.length >= 140, "140 answers");
    expect(results.filter((result) => result === "SERVING")).toHaveLength(128);
    expect(results.filter((result) => result.startsWith("the server handles 128"))).toHaveLength(12);
    client.close();
  });

  test("the management port answers nothing else", async () => {
    const mesh = await startTestServer();
    expect((await management(mesh, "/"))[0]).toBe(404);
    const post = await fetch(`http://127.0.0.1:${mesh.server.managementPort}/healthz`, { method: "POST", body: "x" });
    expect(post.status).toBe(404);
  });
});

describe("drain", () => {
  test("streams that end within the drain time end well, and the server waits for them", async () => {
    let finish = () => {};
    const finished = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const mesh = await startTestServer(
      {
        async *generate() {
          yield token("first");
          await finished;
          yield token("last");
        },
      },
      { drainSeconds: 60 },
    );
    const stream = await openStream(await mesh.client());
    let isClosed = false;
    const closed = mesh.server.close().then(() => {
      isClosed = true;
    });
    await until(() => mesh.logs.some(({ msg }) => msg === "draining"), "draining");
    expect([isClosed, mesh.server.runningCalls]).toEqual([false, 1]);
    finish();
    expect((await stream.next()).value).toMatchObject(token("last"));
    expect((await stream.next()).done).toBe(true);
    await closed;
    expect(mesh.logs.at(-1)).toMatchObject({ msg: "closed" });
    expect(mesh.logs).toContainEqual(expect.objectContaining({ msg: "call ended", code: "OK" }));
  });

  test("streams that outlast it end with DRAINING, their handlers' signals fire, and what they wrote arrives", async () => {
    const reasons: unknown[] = [];
    const mesh = await startTestServer(
      {
        async *generate(_, { signal }) {
          try {
            yield token("first");
            await untilAborted(signal);
          } finally {
            reasons.push(signal.reason);
          }
        },
      },
      { drainSeconds: 0.2 },
    );
    const client = await mesh.client();
    const streams = await Promise.all([openStream(client), openStream(client), openStream(client)]);
    const ends = streams.map((stream) => reasonOf(stream.next()));
    const started = performance.now();
    await mesh.server.close();
    expect(performance.now() - started).toBeGreaterThan(195);
    expect(await Promise.all(ends)).toEqual(["DRAINING", "DRAINING", "DRAINING"]);
    expect(reasons).toMatchObject([{ reason: "DRAINING" }, { reason: "DRAINING" }, { reason: "DRAINING" }]);
  });

  test("a handler that ignores its signal, and a client that reads nothing, hold it up for seconds only", async () => {
    const mesh = await startTestServer(
      {
        getModel: () => new Promise(() => {}),
        async *generate() {
          while (true) yield token("x".repeat(100_000));
        },
      },
      { drainSeconds: 0.1 },
    );
    const client = await mesh.client();
    const stuck = reasonOf(client.getModel({}));
    await openStream(client);
    await until(() => mesh.server.runningCalls === 2, "two running calls");
    const started = performance.now();
    await mesh.server.close();
    expect(performance.now() - started).toBeLessThan(8_000);
    expect(await stuck).toBe("DRAINING");
    expect(mesh.logs).toContainEqual(expect.objectContaining({ msg: "handlers ignore their signal", runningCalls: 1 }));
  });

  test("closing twice is closing once, and nothing listens afterwards", async () => {
    const mesh = await startTestServer();
    await Promise.all([mesh.server.close(), mesh.server.close()]);
    expect(await reasonOf((await mesh.client()).getModel({}))).toBe("UNAVAILABLE");
    await expect(management(mesh, "/healthz")).rejects.toThrow("fetch failed");
    expect(mesh.logs.filter(({ msg }) => msg === "draining")).toHaveLength(1);
  });
});

describe("ports", () => {
  const listen = async (port: number) => {
    const server = createServer();
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
    return {
      port: (server.address() as AddressInfo).port,
      close: () => new Promise((resolve) => server.close(resolve)),
    };
  };

  test.each(["grpcPort", "managementPort"] as const)("a %s in use is named", async (name) => {
    const taken = await listen(0);
    await expect(startTestServer({}, { [name]: taken.port })).rejects.toMatchObject({
      reason: "PORT_IN_USE",
      message: expect.stringMatching(new RegExp(`^${name}: .*127\\.0\\.0\\.1:${taken.port}`)),
      metadata: { port: String(taken.port) },
    });
    await taken.close();
  });

  test("a start that fails lets go of the port that it got", async () => {
    const [taken, free] = [await listen(0), await listen(0)];
    await free.close();
    const start = startTestServer({}, { grpcPort: free.port, managementPort: taken.port });
    await expect(start).rejects.toThrow("another process");
    const again = await listen(free.port);
    await Promise.all([again.close(), taken.close()]);
  });

  test("an address that is not ours is a wrong option", async () => {
    await expect(startTestServer({}, { grpcHost: "203.0.113.1", allowInsecure: true })).rejects.toMatchObject({
      reason: "CONFIG_INVALID",
      message: expect.stringMatching(/^grpcPort: cannot listen on 203\.0\.113\.1/),
    });
  });
});

describe("TLS", () => {
  const pem = (name: string) => join(import.meta.dirname, "../fixtures/tls", name);
  const read = (name: string) => readFileSync(pem(name));
  const server = { tlsCertFile: pem("server.crt"), tlsKeyFile: pem("server.key") };

  async function call(mesh: TestServer, channel: ReturnType<typeof credentials.createSsl>): Promise<string> {
    const client = createClient(InferenceService, mesh.server.address, channel, { token: await mesh.token() });
    onTestFinished(client.close);
    return await reasonOf(client.getModel({}, { timeoutMs: 5_000 }));
  }

  test("a client that trusts the authority gets through, others and plain text do not", async () => {
    const mesh = await startTestServer({}, server);
    expect(await call(mesh, credentials.createSsl(read("ca.crt")))).toBe("OK");
    expect(await call(mesh, credentials.createSsl())).toBe("UNAVAILABLE");
    expect(await call(mesh, credentials.createInsecure())).toBe("UNAVAILABLE");
  });

  test("with a client authority, only its clients get through", async () => {
    const mesh = await startTestServer({}, { ...server, tlsClientCaFile: pem("ca.crt") });
    const withKey = (name: string) => credentials.createSsl(read("ca.crt"), read(`${name}.key`), read(`${name}.crt`));
    expect(await call(mesh, withKey("client"))).toBe("OK");
    expect(await call(mesh, withKey("stranger"))).toBe("UNAVAILABLE");
    expect(await call(mesh, credentials.createSsl(read("ca.crt")))).toBe("UNAVAILABLE");
  });

  test("files that are not there or not certificates are named", async () => {
    await expect(startTestServer({}, { ...server, tlsKeyFile: "none.key" })).rejects.toThrow("tlsKeyFile: ENOENT");
    for (const wrong of [{ tlsCertFile: pem("make.sh") }, { tlsKeyFile: pem("client.key") }]) {
      const start = startTestServer({}, { ...server, ...wrong });
      await expect(start).rejects.toThrow(/^tlsCertFile, tlsKeyFile: not a usable pair: /);
    }
  });
});
