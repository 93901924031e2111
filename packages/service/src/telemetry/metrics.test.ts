import { expect, onTestFinished, test } from "vitest";
import { ClientError } from "../errors/client-error.ts";
import { captureLogs, startTestServer, type TestServer } from "../testing/test-server.ts";
import { createMetrics } from "./metrics.ts";

async function scrape(mesh: TestServer) {
  const response = await fetch(`http://127.0.0.1:${mesh.server.managementPort}/metrics`);
  return { status: response.status, type: response.headers.get("content-type"), text: await response.text() };
}

/** The value of a line with these words in its labels. */
function figure(text: string, name: string, ...labels: string[]): number | undefined {
  const line = text
    .split("\n")
    .find((it) => /^\w+/.exec(it)?.[0] === name && labels.every((label) => it.includes(label)));
  return line === undefined ? undefined : Number(line.split(" ").at(-1));
}

test("calls are counted and timed by method and status, and shown to Prometheus", async () => {
  const mesh = await startTestServer({ getModel: async () => ({}) });
  const client = await mesh.client();
  for (let i = 0; i < 3; i++) await client.getModel({});
  const viewer = await mesh.client({ roles: ["viewer"] });
  await expect(viewer.score({})).rejects.toBeInstanceOf(ClientError);

  const { status, type, text } = await scrape(mesh);
  expect([status, type]).toEqual([200, "text/plain; version=0.0.4; charset=utf-8"]);
  const count = "rpc_server_call_duration_seconds_count";
  const getModel = `rpc_method="persona.inference.v1.InferenceService/GetModel"`;
  expect(figure(text, count, getModel, `rpc_status_code="OK"`, `rpc_system_name="grpc"`)).toBe(3);
  expect(figure(text, count, "InferenceService/Score", `rpc_status_code="PERMISSION_DENIED"`)).toBe(1);
  const bucket = "rpc_server_call_duration_seconds_bucket";
  expect(figure(text, bucket, getModel, `le="10"`)).toBe(3);
  expect(figure(text, "rpc_server_call_duration_seconds_sum", getModel)).toBeLessThan(3);
  expect(text).toContain("# TYPE rpc_server_call_duration_seconds histogram");
});

test("only a server's own faults are errors", async () => {
  const mesh = await startTestServer({
    getModel: async () => {
      throw new Error("a defect");
    },
  });
  const client = await mesh.client({ roles: ["viewer"] });
  await expect(client.getModel({})).rejects.toThrow("INTERNAL");
  await expect(client.score({})).rejects.toThrow("PERMISSION_DENIED");
  const lines = (await scrape(mesh)).text.split("\n").filter((line) => line.includes("error_type="));
  expect(lines.length).toBeGreaterThan(0);
  expect(lines.every((line) => line.includes(`error_type="INTERNAL"`) && line.includes("/GetModel"))).toBe(true);
});

test("figures tell nothing of tenants and callers: anyone who reaches the port reads them", async () => {
  const mesh = await startTestServer();
  const client = await mesh.client({ token: await mesh.token({ tenant: "secret-tenant", subject: "secret-person" }) });
  await client.getModel({}, { requestId: "secret-request" });
  expect((await scrape(mesh)).text).not.toContain("secret-");
});

test("with TLS, the expiry of the certificate in force is shown", async () => {
  const mesh = await startTestServer({}, { devTls: true });
  const { text } = await scrape(mesh);
  const expiry = figure(text, "persona_tls_certificate_expiry_seconds") ?? 0;
  expect((expiry - Date.now() / 1000) / 3600).toBeCloseTo(24, 1);
  expect((await scrape(await startTestServer())).text).not.toContain("certificate");
});

test("running calls show while they run", async () => {
  const mesh = await startTestServer({
    async *generate(_, { signal }) {
      yield {};
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    },
  });
  const client = await mesh.client();
  const running = async () => figure((await scrape(mesh)).text, "persona_server_running_calls");
  expect(await running()).toBe(0);
  const stream = client.generate({})[Symbol.asyncIterator]();
  await stream.next();
  expect(await running()).toBe(1);
  await stream.return?.(undefined as never);
  await expect.poll(running, { timeout: 10_000 }).toBe(0);
});

test("a service's own instruments stand beside the server's, and two servers do not share figures", async () => {
  const metrics = await createMetrics("inference", captureLogs().log);
  onTestFinished(() => metrics.close());
  metrics.meter.createCounter("persona.tokens.generated", { unit: "{token}" }).add(7, { phase: "decode" });
  metrics.meter.createGauge("persona.cache.size", { unit: "By" }).record(4096);
  const mesh = await startTestServer({}, {}, { metrics });
  const other = await startTestServer();
  const { text } = await scrape(mesh);
  expect(figure(text, "persona_tokens_generated_total", `phase="decode"`)).toBe(7);
  expect(figure(text, "persona_cache_size_bytes")).toBe(4096);
  expect(text).toContain(`service_name="inference"`);
  expect((await scrape(other)).text).not.toContain("persona_tokens_generated");
});

test("an instrument that fails is left out and logged; the others are shown", async () => {
  const { logs, log } = captureLogs();
  const metrics = await createMetrics("broken", log);
  onTestFinished(() => metrics.close());
  metrics.meter.createObservableGauge("persona.broken").addCallback(() => {
    throw new Error("no figure");
  });
  const mesh = await startTestServer({}, {}, { metrics });
  const { status, text } = await scrape(mesh);
  expect(status).toBe(200);
  expect(figure(text, "persona_server_running_calls")).toBe(0);
  expect(logs).toContainEqual(
    expect.objectContaining({ level: "error", err: expect.objectContaining({ message: "no figure" }) }),
  );
});

test("a client measures its calls where it is given a meter", async () => {
  const metrics = await createMetrics("caller", captureLogs().log);
  onTestFinished(() => metrics.close());
  const mesh = await startTestServer();
  const client = await mesh.client({ meter: metrics.meter, roles: ["viewer"] });
  await client.getModel({});
  await expect(client.score({})).rejects.toThrow("PERMISSION_DENIED");
  const text = await metrics.text();
  const count = "rpc_client_call_duration_seconds_count";
  const server = `server_port="${mesh.server.port}"`;
  expect(figure(text, count, `rpc_status_code="OK"`, `server_address="127.0.0.1"`, server)).toBe(1);
  expect(figure(text, count, `error_type="PERMISSION_DENIED"`, server)).toBe(1);
});

test("series that come and go are shown while they are read, and one that fails is left out", async () => {
  const { logs, log } = captureLogs();
  const metrics = await createMetrics("series", log);
  onTestFinished(() => metrics.close());
  let versions = ["one", "two"];
  metrics.addSeries({
    name: "persona.coherence",
    description: "How coherent",
    kind: "gauge",
    read: () => versions.map((version, index) => ({ value: index + 0.5, attributes: { version } })),
  });
  metrics.addSeries({
    name: "persona.coherence.replies",
    description: "How many",
    kind: "counter",
    read: () => versions.map((version) => ({ value: 3, attributes: { version } })),
  });
  const first = await metrics.text();
  expect(first).toContain("# TYPE persona_coherence gauge");
  expect(figure(first, "persona_coherence", `version="two"`)).toBe(1.5);
  expect(figure(first, "persona_coherence_replies_total", `version="two"`)).toBe(3);
  versions = ["three"];
  const second = await metrics.text();
  expect(second.match(/^persona_coherence\b.*/gm)).toEqual([`persona_coherence{version="three"} 0.5`]);
  metrics.addSeries({
    name: "persona.broken",
    description: "Fails",
    kind: "gauge",
    read: () => {
      throw new Error("no series");
    },
  });
  expect(figure(await metrics.text(), "persona_coherence", `version="three"`)).toBe(0.5);
  expect(logs).toContainEqual(expect.objectContaining({ err: expect.objectContaining({ message: "no series" }) }));
});
