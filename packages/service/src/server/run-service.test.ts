import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { credentials } from "@grpc/grpc-js";
import { InferenceService } from "@persona-mesh/protocol";
import { afterEach, beforeEach, expect, onTestFinished, test } from "vitest";
import { ensureDevKeys, signDevToken } from "../auth/dev-keys.ts";
import { createClient } from "../grpc/client.ts";
import { startOtlpReceiver } from "../testing/otlp-receiver.ts";
import { until } from "../testing/test-server.ts";

let dataDir: string;
let children: ChildProcess[];

beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "persona-run-"));
  children = [];
});

afterEach(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(dataDir, { recursive: true, force: true });
});

/** A real process with its output so far and its end. */
function run(args: readonly string[], environment: Record<string, string> = {}) {
  const program = fileURLToPath(new URL("../testing/echo-service.ts", import.meta.url));
  const child = spawn(process.execPath, [program, ...args], {
    env: {
      PATH: process.env["PATH"],
      PERSONA_DATA_DIR: dataDir,
      PERSONA_GRPC_PORT: "0",
      PERSONA_MANAGEMENT_PORT: "0",
      PERSONA_DEV_TLS: "false",
      ...environment,
    },
  });
  children.push(child);
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (chunk) => {
    output.stdout += chunk;
  });
  child.stderr.on("data", (chunk) => {
    output.stderr += chunk;
  });
  const ended = new Promise<number | string | null>((resolve) => {
    child.on("close", (code, signal) => resolve(code ?? signal));
  });
  const lines = () =>
    output.stdout
      .split("\n")
      .flatMap((line) => (line.startsWith("{") ? [JSON.parse(line) as Record<string, unknown>] : []));
  return { child, output, ended, lines };
}

/** A service that serves, with a client. */
async function serve(environment: Record<string, string> = {}) {
  const service = run([], environment);
  await until(() => service.lines().some(({ msg }) => msg === "serving"), "serving");
  const port = service.lines().find(({ msg }) => msg === "serving")?.["port"];
  const token = await signDevToken(await ensureDevKeys(dataDir), { subject: "t", tenant: "acme", roles: ["operator"] });
  const client = createClient(InferenceService, `127.0.0.1:${port}`, credentials.createInsecure(), { token });
  return { ...service, client, port: Number(port) };
}

test("SIGTERM with a stream open: the stream ends with DRAINING, the process with 0", async () => {
  const { client, child, ended, lines } = await serve({ PERSONA_DRAIN_SECONDS: "0.3" });
  const stream = client.generate({})[Symbol.asyncIterator]();
  await stream.next();
  const rest = expect(stream.next()).rejects.toMatchObject({ reason: "DRAINING" });
  child.kill("SIGTERM");
  await rest;
  expect(await ended).toBe(0);
  expect(lines().map(({ msg }) => msg)).toEqual(
    expect.arrayContaining(["serving", "asked to end", "draining", "drain time is up; ending calls", "closed"]),
  );
});

test("with a collector, its calls are traced, and the last spans are sent before it ends", async () => {
  const collector = await startOtlpReceiver();
  onTestFinished(collector.close);
  const { client, child, ended } = await serve({ PERSONA_OTLP_ENDPOINT: collector.endpoint });
  await client.getModel({}, { requestId: "traced" });
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
  const span = collector.spans.find(({ attributes }) => attributes["persona.request_id"] === "traced");
  expect(span).toMatchObject({ service: "echo", name: "persona.inference.v1.InferenceService/GetModel", kind: 2 });
});

test("a second signal ends it at once", async () => {
  const { client, child, ended, lines } = await serve({ PERSONA_DRAIN_SECONDS: "600" });
  const stream = client.generate({})[Symbol.asyncIterator]();
  await stream.next();
  const rest = expect(stream.next()).rejects.toMatchObject({ reason: "UNAVAILABLE" });
  child.kill("SIGTERM");
  await until(() => lines().some(({ msg }) => msg === "draining"), "draining");
  child.kill("SIGTERM");
  expect(await ended).toBe(143);
  await rest;
});

test.each([
  ["reject", "unhandledRejection", "nobody waits for this"],
  ["throw", "uncaughtException", "nobody catches this"],
])("an error that nobody handles (%s) is logged and ends the process", async (text, event, message) => {
  const { client, ended, lines } = await serve();
  const stream = client.generate({ prompt: { input: { case: "text", value: text } } })[Symbol.asyncIterator]();
  await stream.next().then(
    () => expect(stream.next()).rejects.toMatchObject({ reason: "UNAVAILABLE" }),
    () => {},
  );
  expect(await ended).toBe(1);
  expect(lines().at(-1)).toMatchObject({ level: "fatal", msg: event, err: { message } });
});

test("killed with -9, it starts again on the same port with the same keys", async () => {
  const first = await serve();
  first.child.kill("SIGKILL");
  await first.ended;
  const second = await serve({ PERSONA_GRPC_PORT: String(first.port) });
  // The first client, with its old token, goes on.
  await expect
    .poll(() =>
      first.client.getModel({}).then(
        ({ modelChecksum }) => modelChecksum,
        () => "",
      ),
    )
    .toBe("echo");
  second.child.kill("SIGTERM");
  expect(await second.ended).toBe(0);
});

test("a port in use: reason, port and exit code 3", async () => {
  const { port } = await serve();
  const second = run(["--grpc-port", String(port)]);
  expect(await second.ended).toBe(3);
  expect(second.lines().at(-1)).toMatchObject({
    level: "fatal",
    reason: "PORT_IN_USE",
    msg: expect.stringContaining(`:${port}`),
  });
});

test("a wrong option: its name, and exit code 2", async () => {
  const { ended, output } = run(["--grpc-prot", "1"], { PERSONA_DRAIN_SECONDS: "soon" });
  expect(await ended).toBe(2);
  expect(output.stderr).toContain("CONFIG_INVALID");
  expect(output.stderr).toContain("--grpc-prot: no such option; did you mean --grpc-port?");
  expect(output.stderr).toMatch(/drainSeconds: .*\(from PERSONA_DRAIN_SECONDS\)/);
});

test("options that do not fit together: exit code 2", async () => {
  const { ended, lines } = run(["--grpc-host", "0.0.0.0"]);
  expect(await ended).toBe(2);
  expect(lines().at(-1)).toMatchObject({ reason: "CONFIG_INVALID", msg: expect.stringMatching(/^grpcHost: /) });
});

test("--print-config and --help print and end with 0", async () => {
  const config = run(["--print-config", "--log-level", "warn"]);
  expect(await config.ended).toBe(0);
  expect(config.output.stdout).toMatch(/^logLevel +"warn" +--log-level$/m);
  expect(config.output.stdout).toMatch(/^grpcPort +0 +PERSONA_GRPC_PORT$/m);
  const help = run(["--help"]);
  expect(await help.ended).toBe(0);
  expect(help.output.stdout).toContain("--drain-seconds, PERSONA_DRAIN_SECONDS");
});
