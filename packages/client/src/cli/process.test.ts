import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startOtlpReceiver } from "../../../service/src/testing/otlp-receiver.ts";
import { InferenceClient } from "../client.ts";
import { replyOf, type ScriptedWorker, startScriptedWorker, until } from "../testing/scripted-worker.ts";

const BIN = fileURLToPath(new URL("../../bin/persona.js", import.meta.url));

let worker: ScriptedWorker;
let cancelled = 0;

beforeAll(async () => {
  worker = await startScriptedWorker({
    async *generate(_request, { signal }) {
      signal.addEventListener("abort", () => cancelled++);
      for (const event of replyOf(Array.from({ length: 10_000 }, (_, i) => `word ${i} `))) {
        if (signal.aborted) return;
        yield event;
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    },
    getModel: async () => ({ modelChecksum: "m1" }),
  });
});
afterAll(() => worker[Symbol.asyncDispose]());

interface Running {
  readonly child: ChildProcessWithoutNullStreams;
  /** How the process ended, and what it said. */
  readonly ended: Promise<{ code: number | null; stdout: string; stderr: string }>;
}

function start(argv: string[], nodeOptions: string[] = [], variables: Record<string, string> = {}): Running {
  const env = { PATH: process.env["PATH"] ?? "", ...variables };
  const child = spawn(process.execPath, [...nodeOptions, BIN, ...argv], { env });
  const text = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text.stdout += chunk;
  });
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
    text.stderr += chunk;
  });
  return { child, ended: once(child, "close").then(([code]) => ({ code, ...text })) };
}

const here = () => ["--address", worker.address, "--data-dir", worker.dataDir];

describe("the process", () => {
  it("ends by itself with the code of the command", async () => {
    expect(await start(["--version"]).ended).toEqual({ code: 0, stdout: "0.1.0\n", stderr: "" });
    expect(await start(["generate", "--nope"]).ended).toMatchObject({ code: 2, stdout: "" });
    const served = await start(["model", "served", "--json", ...here()]).ended;
    expect(served.code).toBe(0);
    expect(JSON.parse(served.stdout)).toMatchObject({ modelChecksum: "m1" });
  });

  it("is the root of the trace of its calls where OpenTelemetry is told where spans go", async () => {
    const collector = await startOtlpReceiver();
    const words = ["model", "served", ...here()];
    const { code } = await start(words, [], { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint }).ended;
    await collector.close();
    expect(code).toBe(0);
    expect(collector.spans).toMatchObject([
      { service: "persona-cli", kind: 3, name: expect.stringMatching(/GetModel$/), parentSpanId: "", status: 0 },
    ]);
  });

  it.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("cancels its call on %s and ends with %i", async (signal, expected) => {
    const before = cancelled;
    const { child, ended } = start(["generate", "hi", ...here()]);
    await once(child.stdout, "data");
    child.kill(signal);
    const { code, stderr } = await ended;
    expect(code).toBe(expected);
    expect(stderr).toContain(`CANCELLED [INTERRUPTED] stopped by ${signal}\n`);
    await until(() => cancelled > before, "the worker hears of it");
  });

  it("ends quietly when its reader goes away, as other commands do", async () => {
    const before = cancelled;
    const { child, ended } = start(["generate", "hi", ...here()]);
    await once(child.stdout, "data");
    child.stdout.destroy();
    const { code, stderr } = await ended;
    expect({ code, stderr }).toEqual({ code: 141, stderr: "using a development token: tenant acme, role operator\n" });
    await until(() => cancelled > before, "the worker hears of it");
  });

  it("says which Node.js it needs when it runs under an older one", async () => {
    const older = 'Object.defineProperty(process, "versions", { value: { node: "20.20.2" } })';
    const preload = `data:text/javascript,${encodeURIComponent(older)}`;
    const { code, stdout, stderr } = await start(["--version"], ["--import", preload]).ended;
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toMatch(/^persona needs Node\.js 24 or newer/);
  });
});

describe("token dev", () => {
  it("prints a token that a worker with the same data folder accepts", async () => {
    const options = ["--tenant", "globex", "--role", "viewer,operator", "--ttl", "90s", "--subject", "ci"];
    const { code, stdout } = await start(["token", "dev", "--data-dir", worker.dataDir, ...options]).ended;
    expect(code).toBe(0);
    const token = stdout.trimEnd();
    const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
    expect(claims).toMatchObject({ tenant: "globex", roles: ["viewer", "operator"], sub: "ci" });
    expect(claims.exp - claims.iat).toBe(90);
    using client = new InferenceClient({ address: worker.address, token });
    await expect(client.getModel()).resolves.toMatchObject({ modelChecksum: "m1" });
  });

  it("makes the keys of a new data folder, for this user only", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "persona-keys-"));
    try {
      const { code, stdout } = await start(["token", "dev", "--role", "operator", "--json", "--data-dir", dataDir])
        .ended;
      expect(code).toBe(0);
      const { token, expiresAt, ...rest } = JSON.parse(stdout);
      expect(rest).toEqual({ tenant: "acme", roles: ["operator"], subject: expect.stringMatching(/^dev:/) });
      expect(Math.abs(new Date(expiresAt).getTime() - Date.now() - 8 * 3600_000)).toBeLessThan(60_000);
      // A worker of another folder does not know this key.
      using client = new InferenceClient({ address: worker.address, token });
      await expect(client.getModel()).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
    } finally {
      await rm(dataDir, { recursive: true });
    }
  });
});
