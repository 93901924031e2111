import { connect } from "node:http2";
import { credentials, Metadata } from "@grpc/grpc-js";
import { context, propagation, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { InferenceService } from "@persona-mesh/protocol";
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from "vitest";
import { ServiceError } from "../errors/service-error.ts";
import { type Client, createClient } from "../grpc/client.ts";
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from "../testing/otlp-receiver.ts";
import { captureLogs, openTestServer, startTestServer, type TestServer, until } from "../testing/test-server.ts";
import { setCallTracer, startClientSpan } from "./call-spans.ts";
import { startTracing, type Tracing } from "./tracing.ts";

const SECRET = "the quick brown prompt";
const PATH = "persona.inference.v1.InferenceService";
const [SERVER, CLIENT] = [2, 3];

let collector: OtlpReceiver;
let tracing: Tracing | undefined;
let backend: TestServer;
let frontend: TestServer;
let inner: Client<typeof InferenceService>;

const textOf = (request: { prompt?: { input: { case?: string | undefined; value?: unknown } } | undefined }) =>
  String(request.prompt?.input.value);

/** Two servers: the first one calls the second within its handlers, as the services of the mesh do. */
beforeAll(async () => {
  collector = await startOtlpReceiver();
  const endpoint = `${collector.endpoint}/`;
  tracing = await startTracing({ service: "test", endpoint, exportIntervalMs: 50 }, captureLogs().log);
  backend = await openTestServer({ getModel: async () => ({ modelChecksum: "inner" }) });
  inner = await backend.client();
  frontend = await openTestServer({
    getModel: () => inner.getModel({}),
    async score(request) {
      throw new ServiceError("PERSONA_NOT_FOUND", `no persona for ${textOf(request)}`);
    },
    async listLoadedPersonas() {
      throw new Error(`a defect near ${SECRET}`);
    },
    async *generate(request, { log, annotate, record }) {
      log.info("generating");
      const start = performance.now();
      annotate({ alpha: 0.5 });
      yield { event: { case: "tokens", value: { text: textOf(request) } } };
      await inner.getModel({});
      yield { event: { case: "tokens", value: { text: textOf(request) } } };
      if (textOf(request) !== "think") return;
      const end = performance.now();
      record({
        name: "thinking",
        start,
        end,
        attributes: { share: 0.5, kinds: ["deep", "slow"] },
        events: [{ name: "idea", at: (start + end) / 2, attributes: { good: true } }],
        failed: true,
      });
    },
  });
});

afterAll(async () => {
  await frontend.close();
  await backend.close();
  await tracing?.close();
  await collector.close();
});

/** The spans of one trace, once there are so many. */
async function spansOf(traceId: () => string | undefined, count: number): Promise<ReceivedSpan[]> {
  const found = () => collector.spans.filter((span) => span.traceId === traceId());
  await until(() => found().length >= count, `${count} spans`);
  return found();
}

/** The trace in whose root span a call of ours with this id took place. */
const traceOf = (requestId: string) => () =>
  collector.spans.find(({ attributes }) => attributes["persona.request_id"] === requestId)?.traceId;

const child = (spans: readonly ReceivedSpan[], parent: ReceivedSpan | undefined) =>
  spans.find(({ parentSpanId }) => parentSpanId !== "" && parentSpanId === parent?.spanId);

const prompt = { prompt: { input: { case: "text" as const, value: SECRET } } };

describe("a call through two services", () => {
  test("is one trace: client, server, client, server, each the child of the one before", async () => {
    const client = await frontend.client();
    await client.getModel({}, { requestId: "chain" });
    const spans = await spansOf(traceOf("chain"), 4);
    const chain = [spans.find(({ parentSpanId }) => parentSpanId === "")];
    for (let i = 0; i < 3; i++) chain.push(child(spans, chain.at(-1)));
    expect(chain.map((span) => span?.kind)).toEqual([CLIENT, SERVER, CLIENT, SERVER]);
    expect(new Set(chain.map((span) => span?.name))).toEqual(new Set([`${PATH}/GetModel`]));
    expect(spans).toHaveLength(4);
    expect(spans[0]?.service).toBe("test");
  });

  test("in the middle of a stream is still a child of the stream", async () => {
    const client = await frontend.client();
    for await (const _ of client.generate(prompt, { requestId: "stream" })) {
      // Read to the end.
    }
    const spans = await spansOf(traceOf("stream"), 4);
    const server = spans.find(({ name, kind }) => name === `${PATH}/Generate` && kind === SERVER);
    expect(child(spans, server)).toMatchObject({ name: `${PATH}/GetModel`, kind: CLIENT });
  });

  test("concurrent calls do not mix", async () => {
    const client = await frontend.client();
    const ids = Array.from({ length: 10 }, (_, i) => `many-${i}`);
    await Promise.all(ids.map((requestId) => client.getModel({}, { requestId })));
    const traces = await Promise.all(ids.map((id) => spansOf(traceOf(id), 4)));
    expect(traces.map((spans) => spans.length)).toEqual(ids.map(() => 4));
    expect(new Set(traces.map(([span]) => span?.traceId)).size).toBe(10);
  });
});

describe("spans", () => {
  test("say what the conventions ask for, on both sides", async () => {
    const client = await frontend.client();
    await client.getModel({}, { requestId: "attributes" });
    const spans = await spansOf(traceOf("attributes"), 4);
    const root = spans.find(({ parentSpanId }) => parentSpanId === "");
    const call = { "rpc.system.name": "grpc", "rpc.method": `${PATH}/GetModel`, "rpc.status_code": "OK" };
    expect(root?.attributes).toEqual({
      ...call,
      "server.address": "127.0.0.1",
      "server.port": frontend.server.port,
    });
    expect(child(spans, root)?.attributes).toEqual({
      ...call,
      "persona.request_id": "attributes",
      "persona.tenant": "acme",
    });
  });

  test("of a refusal are the client's error but not the server's; of a defect they are both", async () => {
    const client = await frontend.client();
    await expect(client.score(prompt, { requestId: "refused" })).rejects.toThrow("PERSONA_NOT_FOUND");
    await expect(client.listLoadedPersonas({}, { requestId: "defect" })).rejects.toThrow("INTERNAL");
    const [refused, defect] = [await spansOf(traceOf("refused"), 2), await spansOf(traceOf("defect"), 2)];
    const seen = (spans: ReceivedSpan[]) =>
      spans
        .sort((a, b) => a.kind - b.kind)
        .map(({ status, statusMessage, attributes }) => [
          status,
          statusMessage,
          attributes["rpc.status_code"],
          attributes["error.type"],
          attributes["persona.reason"],
        ]);
    expect(seen(refused)).toEqual([
      [0, "", "NOT_FOUND", undefined, "PERSONA_NOT_FOUND"],
      [2, "", "NOT_FOUND", "NOT_FOUND", "PERSONA_NOT_FOUND"],
    ]);
    expect(seen(defect)).toEqual([
      [2, "", "INTERNAL", "INTERNAL", "INTERNAL"],
      [2, "", "INTERNAL", "INTERNAL", "INTERNAL"],
    ]);
  });

  test("of what a call went through lie within the call's, with its moments in order", async () => {
    const client = await frontend.client();
    for await (const _ of client.generate(
      { prompt: { input: { case: "text", value: "think" } } },
      { requestId: "parts" },
    )) {
      // Read to the end.
    }
    const spans = await spansOf(traceOf("parts"), 5);
    const root = spans.find(({ parentSpanId }) => parentSpanId === "") as ReceivedSpan;
    const server = child(spans, root) as ReceivedSpan;
    const part = spans.find(({ name }) => name === "thinking") as ReceivedSpan;
    expect(part).toMatchObject({ parentSpanId: server.spanId, kind: 1, status: 2, statusMessage: "" });
    expect(part.attributes).toEqual({ share: 0.5, kinds: ["deep", "slow"] });
    const [idea] = part.events;
    expect(idea).toMatchObject({ name: "idea", attributes: { good: true } });
    const moments = [root.start, server.start, part.start, idea?.at, part.end, server.end, root.end];
    expect(moments).toEqual(moments.toSorted((a = 0, b = 0) => a - b));
    expect(part.end).toBeGreaterThan(part.start);
    expect(Math.abs(Date.now() - root.end)).toBeLessThan(60_000);
  });

  test("of another OpenTelemetry in a client's process go along", async () => {
    // What a program has that traces itself: a propagator, a context, and no tracer of ours.
    setCallTracer(undefined);
    const traceId = "0af7651916cd43dd8448eb211c80319c";
    const foreign = trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId: "b7ad6b7169203331", traceFlags: 1 });
    const metadata = new Metadata();
    try {
      expect(context.with(foreign, () => startClientSpan("/a/B", "here:1", metadata))).toBeUndefined();
    } finally {
      setCallTracer(trace.getTracer("persona-mesh"));
    }
    expect(metadata.get("traceparent")).toEqual([`00-${traceId}-b7ad6b7169203331-01`]);
  });

  test("end when the reader leaves a stream early", async () => {
    const client = await frontend.client();
    for await (const _ of client.generate(prompt, { requestId: "left" })) break;
    const spans = await spansOf(traceOf("left"), 2);
    const root = spans.find(({ parentSpanId }) => parentSpanId === "");
    expect(root).toMatchObject({ status: 2, attributes: { "rpc.status_code": "CANCELLED" } });
  });

  test("of refused callers have no tenant", async () => {
    const client = createClient(InferenceService, frontend.server.address, credentials.createInsecure());
    onTestFinished(client.close);
    await expect(client.getModel({}, { requestId: "anonymous" })).rejects.toThrow("TOKEN_MISSING");
    const server = (await spansOf(traceOf("anonymous"), 2)).find(({ kind }) => kind === SERVER);
    expect(server?.attributes).toMatchObject({ "rpc.status_code": "UNAUTHENTICATED" });
    expect(server?.attributes).not.toHaveProperty("persona.tenant");
  });

  test("hold no text of prompts, replies and errors, and no token", async () => {
    const token = await frontend.token();
    const client = await frontend.client({ token });
    for await (const _ of client.generate(prompt, { requestId: "secret" })) {
      // Read to the end.
    }
    await spansOf(traceOf("secret"), 4);
    const sent = collector.bytes().toString("latin1");
    expect(sent).toContain("persona.request_id");
    expect(sent).not.toContain("quick brown");
    for (const part of token.split(".")) expect(sent).not.toContain(part);
  });
});

test("log lines of a call carry its trace and span", async () => {
  const client = await frontend.client();
  for await (const _ of client.generate(prompt, { requestId: "logged" })) {
    // Read to the end.
  }
  const spans = await spansOf(traceOf("logged"), 4);
  const server = spans.find(({ attributes }) => attributes["persona.request_id"] === "logged");
  const lines = frontend.logs.filter(({ requestId }) => requestId === "logged");
  expect(lines.map(({ msg }) => msg)).toEqual(["generating", "call ended"]);
  for (const line of lines) expect(line).toMatchObject({ trace_id: server?.traceId, span_id: server?.spanId });
});

describe("trace context from outside", () => {
  const call = async (traceparent: string) => {
    const session = connect(`http://${frontend.server.address}`);
    onTestFinished(() => session.destroy());
    const requestId = `outside-${traceparent.length}-${traceparent.slice(0, 5)}`;
    const stream = session.request({
      ":method": "POST",
      ":path": `/${PATH}/GetModel`,
      "content-type": "application/grpc",
      te: "trailers",
      traceparent,
      "x-request-id": requestId,
      authorization: `Bearer ${await frontend.token()}`,
    });
    stream.end(Buffer.alloc(5));
    await new Promise((resolve) => stream.resume().on("close", resolve));
    await until(() => traceOf(requestId)() !== undefined, "its span");
    return collector.spans.find(({ attributes }) => attributes["persona.request_id"] === requestId);
  };

  test("is taken up", async () => {
    const span = await call("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    expect(span).toMatchObject({ traceId: "0af7651916cd43dd8448eb211c80319c", parentSpanId: "b7ad6b7169203331" });
  });

  test.each(["nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "x".repeat(5_000)])(
    "is passed over when it is none: %.20s",
    async (traceparent) => {
      expect(await call(traceparent)).toMatchObject({ parentSpanId: "" });
    },
  );
});

describe("without a collector", () => {
  test("nothing is traced, nor where OpenTelemetry is told to keep out", async () => {
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    vi.stubEnv("OTEL_EXPORTER_OTLP_ENDPOINT", undefined);
    expect(await startTracing({ service: "test" }, captureLogs().log)).toBeUndefined();
    vi.stubEnv("OTEL_SDK_DISABLED", "true");
    expect(await startTracing({ service: "test", endpoint: collector.endpoint }, captureLogs().log)).toBeUndefined();
  });

  test("that answers, calls go on, and the end waits for seconds only", async () => {
    await tracing?.close();
    const { logs, log } = captureLogs();
    const lost = await startTracing({ service: "test", endpoint: "http://127.0.0.1:1" }, log);
    const mesh = await startTestServer();
    const client = await mesh.client();
    expect((await client.getModel({})).modelChecksum).toBe("test");
    const started = performance.now();
    await lost?.close();
    expect(performance.now() - started).toBeLessThan(4_000);
    expect(logs[0]).toMatchObject({ msg: "tracing" });
    // And after the end there are no spans and no context.
    const before = mesh.logs.length;
    await client.getModel({});
    expect(mesh.logs.slice(before).every((line) => !("trace_id" in line))).toBe(true);
    expect(trace.getTracer("any").startSpan("any").isRecording()).toBe(false);
    expect([context.active(), propagation.fields()]).toEqual([ROOT_CONTEXT, []]);
  });
});
