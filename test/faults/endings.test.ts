import { existsSync, readdirSync } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { type GenerateInput, InferenceClient, type Reply } from "@persona-mesh/client";
import { FinishReason } from "@persona-mesh/protocol";
import { ensureDevKeys, type RoleName, signDevToken } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { personaName, writeTenant } from "../support/personas.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { askServedModel } from "../support/served-model.ts";
import { starterPackage } from "../support/starter-package.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";
import { spawnWorker, startWorkerProcess } from "../support/worker-process.ts";

const PERSONA = personaName("acme", "loud");

let shared: string;
let model: string;

beforeAll(async () => {
  shared = await mkdtemp(join(tmpdir(), "persona-endings-"));
  model = await starterPackage(join(shared, "model"));
});

afterAll(() => rm(shared, { recursive: true, force: true }));

async function clientOf(address: string, dataDir: string, roles: readonly RoleName[] = ["operator"]) {
  const token = await signDevToken(await ensureDevKeys(dataDir), { subject: "tester", tenant: "acme", roles });
  const client = new InferenceClient({ address, token });
  onTestFinished(() => client.close());
  return client;
}

/** A stream whose first token has arrived, with its end to come. */
async function openStream(
  client: InferenceClient,
  request: GenerateInput,
): Promise<{ readonly reply: Promise<Reply> }> {
  const first = Promise.withResolvers<void>();
  const reply = client.generateText(request, {}, () => first.resolve());
  // Whoever waits for the reply hears of its failure.
  reply.catch(() => {});
  await Promise.race([first.promise, reply]);
  return { reply };
}

test("SIGTERM with streams open: they and who waits run to their end, new calls are sent away, the process ends with 0", async () => {
  const dataDir = await temporaryFolder();
  const worker = await startWorkerProcess({ model, "data-dir": dataDir, slots: "2", "drain-seconds": "120" });
  const client = await clientOf(worker.address, dataDir);
  const long = ask("hello", { maxTokens: 600 });
  const running = await Promise.all([openStream(client, long), openStream(client, long)]);
  const waiting = client.generateText(ask("hello", { maxTokens: 5 }));
  await client.getModel();
  worker.child.kill("SIGTERM");
  await until(() => worker.log().some(({ msg }) => msg === "draining"), "draining");

  const sentAway = { code: status.UNAVAILABLE, reason: "DRAINING", retryDelayMs: expect.any(Number) };
  expect(await failureOf(client.getModel())).toMatchObject(sentAway);
  expect(await failureOf(client.generateText(long))).toMatchObject(sentAway);
  const ready = await fetch(`http://127.0.0.1:${worker.managementPort}/readyz`);
  expect([ready.status, await ready.text()]).toEqual([503, "draining\n"]);
  expect((await fetch(`http://127.0.0.1:${worker.managementPort}/healthz`)).status).toBe(200);

  const [one, other] = await Promise.all(running.map(({ reply }) => reply));
  expect(one?.finished).toMatchObject({ reason: FinishReason.MAX_TOKENS, completionTokens: 600 });
  expect(fingerprint(other as Reply)).toEqual(fingerprint(one as Reply));
  expect((await waiting).finished.completionTokens).toBe(5);
  expect(await worker.ended).toBe(0);
  expect(worker.log().at(-1)).toMatchObject({ msg: "closed" });
});

test("SIGTERM with streams that outlast the drain time: they end with DRAINING, the process with 0", async () => {
  const dataDir = await temporaryFolder();
  const worker = await startWorkerProcess({ model, "data-dir": dataDir, slots: "2", "drain-seconds": "0.05" });
  const client = await clientOf(worker.address, dataDir);
  const endless = ask("hello", { maxTokens: 1_000_000 });
  const running = await Promise.all([openStream(client, endless), openStream(client, endless)]);
  const waiting = failureOf(client.generateText(endless));
  await client.getModel();
  worker.child.kill("SIGTERM");
  const failures = await Promise.all(running.map(({ reply }) => failureOf(reply)));
  expect([...failures, await waiting]).toMatchObject(
    [1, 2, 3].map(() => ({ code: status.UNAVAILABLE, reason: "DRAINING", retryDelayMs: expect.any(Number) })),
  );
  expect(await worker.ended).toBe(0);
  // Also cut short, they are logged with what they wore and wrote.
  const calls = worker.log().filter(({ reason }) => reason === "DRAINING");
  expect(calls).toHaveLength(3);
  const logged = { alpha: 0, layers: [], entropy: expect.any(Number) };
  expect(calls.filter(({ replyTokens }) => replyTokens !== 0)).toMatchObject(running.map(() => logged));
  expect(worker.log().filter(({ level }) => level === "error" || level === "fatal")).toEqual([]);
});

test("killed with -9 in the import and under load, it comes up with the same model, personas and replies", async () => {
  // Without a package of its own it imports the starter at the first start, beside the place that the package takes.
  const dataDir = await temporaryFolder();
  const imports = spawnWorker({ "data-dir": dataDir });
  const models = join(dataDir, "models");
  await until(() => existsSync(models) && readdirSync(models).length > 0, "the import has begun");
  imports.child.kill("SIGKILL");
  expect(await imports.ended).toBe("SIGKILL");

  const first = await startWorkerProcess({ "data-dir": dataDir });
  const imported = JSON.parse(await readFile(join(model, "manifest.json"), "utf8"));
  const service = await clientOf(first.address, dataDir, ["service"]);
  const client = await clientOf(first.address, dataDir);
  const personas = [{ name: "loud", seed: 1, layers: [2, 3] }];
  const options = { active: "loud" };
  await writeTenant(join(dataDir, "personas"), "acme", await askServedModel(service), personas, options);
  const loaded = async () =>
    (await collect(client.listLoadedPersonas())).map(({ proof, active }) => ({ proof, active }));
  await until(async () => (await loaded()).length === 1, "the persona is loaded");
  const request = ask("hello", { as: PERSONA });
  const before = {
    model: await client.getModel(),
    personas: await loaded(),
    reply: fingerprint(await client.generateText(request)),
  };
  const { modelChecksum, graphDigest } = imported;
  expect(before.model).toMatchObject({ modelChecksum, graphDigest });
  const stream = await openStream(client, ask("hello", { maxTokens: 1_000_000, as: PERSONA }));
  first.child.kill("SIGKILL");
  expect(await failureOf(stream.reply)).toMatchObject({ code: status.UNAVAILABLE, reason: "UNAVAILABLE" });
  expect(await first.ended).toBe("SIGKILL");

  const second = await startWorkerProcess({ "data-dir": dataDir, "grpc-port": String(first.port) });
  expect(second.log().filter(({ msg }) => msg === "imported the starter model")).toEqual([]);
  // The client of before, with the token of before; its connection backs off before it tries again.
  await until(
    () =>
      client.getModel().then(
        () => true,
        () => false,
      ),
    "the client is connected again",
  );
  const after = {
    model: await client.getModel(),
    personas: await loaded(),
    reply: fingerprint(await client.generateText(request)),
  };
  expect(after).toEqual(before);
  second.child.kill("SIGTERM");
  expect(await second.ended).toBe(0);
});
