import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { decodeVector, versionDigest } from "@persona-mesh/steering";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { personaName } from "../support/personas.ts";
import { openStage, type Stage } from "../support/stage.ts";

const MAIN = fileURLToPath(new URL("../../packages/client/src/cli/main.ts", import.meta.url));

let stage: Stage;
let folder: string;

beforeAll(async () => {
  stage = await openStage({ slots: 4 });
  await stage.cast(
    [
      { name: "loud", seed: 1, layers: [2, 3] },
      { name: "calm", seed: 2, layers: [3], alpha: -0.2 },
    ],
    { active: "calm" },
  );
  folder = await mkdtemp(join(tmpdir(), "persona-cli-"));
});

afterAll(async () => {
  await stage.mesh.close();
  await rm(folder, { recursive: true, force: true });
});

interface Run {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command as it is run, against the worker; without a token of its own it makes one with the worker's keys. */
async function persona(args: readonly string[], { stdin = "" } = {}): Promise<Run> {
  const connection = ["--address", stage.mesh.address, "--data-dir", stage.mesh.dataDir];
  const child = spawn(process.execPath, [MAIN, ...connection, ...args], {
    cwd: folder,
    env: { PATH: process.env["PATH"] },
  });
  const written = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].on("data", (chunk) => {
      written[name] += chunk;
    });
  }
  child.stdin.end(stdin);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, ...written };
}

/** @throws Error with what it wrote when it failed */
async function json(args: readonly string[], options?: { stdin: string }) {
  const { code, stdout, stderr } = await persona([...args, "--json"], options);
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`);
  return JSON.parse(stdout);
}

/** The error that it prints with --json. */
async function failure(args: readonly string[]) {
  const { code, stdout, stderr } = await persona([...args, "--json"]);
  expect(stdout).toBe("");
  const { error } = JSON.parse(stderr);
  expect(error.exitCode).toBe(code);
  return error;
}

const SAME = ["Where is my parcel?", "--seed", "7", "--max-tokens", "20"];

describe("generate", () => {
  const request = (selector: object) => ({
    prompt: {
      input: { case: "chat" as const, value: { messages: [{ role: "user", content: "Where is my parcel?" }] } },
    },
    persona: { selector } as object,
    sampling: { seed: 7n },
    maxTokens: 20,
  });

  test("prints the reply that the worker gives, as text and as JSON with its proof", async () => {
    const name = personaName("acme", "loud");
    const reply = await stage.client.generateText(request({ case: "name", value: name }));
    const [text, object] = await Promise.all([
      persona(["generate", ...SAME, "--persona", "loud"]),
      json(["generate", ...SAME, "--persona", "loud"]),
    ]);
    expect(text).toMatchObject({ code: 0, stdout: reply.text.endsWith("\n") ? reply.text : `${reply.text}\n` });
    expect(object).toMatchObject({
      text: reply.text,
      proof: { seed: "7", modelChecksum: stage.served.model.modelChecksum, persona: { name, effectiveAlpha: 0.4 } },
      tokens: { prompt: reply.finished.promptTokens, completion: reply.finished.completionTokens },
    });
  });

  test("without a persona it speaks as the active one; from the standard input, and as nobody, when told", async () => {
    const [active, unsteered] = await Promise.all([
      json(["generate", ...SAME]),
      json(["generate", "-", ...SAME.slice(1), "--unsteered"], { stdin: "Where is my parcel?" }),
    ]);
    expect(active.proof.persona.name).toBe(personaName("acme", "calm"));
    expect(unsteered.proof.persona).toBeNull();
    expect(unsteered.text).toBe((await stage.client.generateText(request({ case: "unsteered", value: {} }))).text);
  });
});

describe("generate in full", () => {
  test("options of sampling and ending reach the worker", async () => {
    const edits = ["--presence-penalty", "0.4", "--frequency-penalty", "0.2", "--repetition-penalty", "1.1"];
    const options = [...edits, "--logit-bias", "700=100", "--min-tokens", "3", "--unsteered"];
    const reply = await json(["generate", ...SAME, ...options, "--stop-token", "700", "--logprobs", "2"]);
    expect(reply).toMatchObject({ finishReason: "STOP", tokens: { completion: 4 } });
    const drawn = reply.logProbs as { id: number; top: { id: number; logProb: number }[] }[];
    // Ruled out for as long as the reply is too short, then forced.
    expect(drawn.map(({ id }) => id === 700)).toEqual([false, false, false, true]);
    expect(drawn.every(({ top }) => top.length === 2)).toBe(true);
  });

  test("several replies come whole, with log-probabilities of the prompt where asked for", async () => {
    const { replies } = await json(["generate", ...SAME, "--n", "2", "--prompt-logprobs", "--unsteered"]);
    expect(replies).toHaveLength(2);
    expect(replies[0].promptLogProbs).toHaveLength(replies[0].tokens.prompt - 1);
    expect(replies[0].text).not.toBe(replies[1].text);
    const { stdout } = await persona(["generate", ...SAME, "--n", "2", "--unsteered"]);
    expect(stdout).toContain(replies[0].text.trim());
    expect(stdout).toContain(replies[1].text.trim());
  });

  test("a twin compares the reply with the unsteered model", async () => {
    const { twin, coherence } = await json(["generate", ...SAME, "--persona", "loud", "--twin"]);
    expect(twin.tokens).toBeGreaterThan(0);
    expect(twin.meanKl).toBeGreaterThan(0);
    expect(coherence.divergence).toBeGreaterThan(0);
    expect((await json(["generate", ...SAME, "--persona", "loud", "--no-twin"])).twin).toBeNull();
  });

  test("colours and several replies do not go together", async () => {
    expect(await failure(["generate", ...SAME, "--n", "2", "--html", "page.html"])).toMatchObject({
      reason: "OPTIONS_CONFLICT",
    });
  });
});

test("compare gives both replies of one seed", async () => {
  const compared = await json(["compare", ...SAME, "--persona", "loud"]);
  expect(compared).toMatchObject({
    seed: "7",
    steered: { proof: { seed: "7", persona: { name: personaName("acme", "loud") } } },
    unsteered: { proof: { seed: "7", persona: null } },
  });
  expect(compared.steered.meanEntropy).not.toBe(compared.unsteered.meanEntropy);
});

test("personas lists the tenant's own", async () => {
  const [own, others] = await Promise.all([json(["personas"]), json(["--tenant", "globex", "personas"])]);
  expect(own.personas).toMatchObject([
    { name: personaName("acme", "calm"), active: true, effectiveAlpha: 0.2 },
    { name: personaName("acme", "loud"), active: false, effectiveAlpha: 0.4 },
  ]);
  expect(others.personas).toEqual([]);
});

test("token dev makes a token that the worker takes, for its role and no other", async () => {
  const { stdout } = await persona(["token", "dev", "--tenant", "acme", "--role", "viewer"]);
  const token = stdout.trim();
  const [served, refused] = await Promise.all([
    json(["--token", token, "model", "served"]),
    failure(["--token", token, "generate", ...SAME]),
  ]);
  expect(served).toMatchObject({ modelChecksum: stage.served.model.modelChecksum, slots: 4 });
  expect(refused).toMatchObject({ code: "PERMISSION_DENIED", reason: "PERMISSION_DENIED", exitCode: 3 });
});

test("vector extract writes a vector of the served model, and writes none that does not separate", async () => {
  const words = [
    "parcel",
    "invoice",
    "refund",
    "password",
    "contract",
    "watch",
    "phone",
    "ticket",
    "order",
    "lamp",
    "card",
    "desk",
  ];
  const pairs = words.map((word) => ({
    prompt: `Where is my ${word}?`,
    positive: `Hooray, hooray! Your ${word} is wonderful! Hooray!`,
    negative: `No. The ${word} is not here. No. No.`,
  }));
  const samples = words.map((word) => ({ prompt: `I lost my ${word}.`, response: `We look for your ${word} now.` }));
  const same = pairs.map(({ prompt, negative }) => ({ prompt, positive: negative, negative }));
  await writeFile(join(folder, "pairs.json"), JSON.stringify({ pairs }));
  await writeFile(join(folder, "same.json"), JSON.stringify({ pairs: same }));
  await writeFile(join(folder, "baseline.json"), JSON.stringify({ samples }));
  const extract = ["vector", "extract", "--baseline", "baseline.json", "--name", "hooray", "--layers", "2,4"];

  const result = await json([...extract, "--pairs", "pairs.json", "--out", "hooray.safetensors"]);
  const bytes = await readFile(join(folder, "hooray.safetensors"));
  expect(result.digest).toBe(versionDigest(bytes));
  expect(decodeVector(bytes).manifest).toMatchObject({
    name: "hooray",
    layers: [2, 4],
    modelChecksum: stage.served.model.modelChecksum,
  });

  const refused = await failure([...extract, "--pairs", "same.json", "--out", "same.safetensors"]);
  expect(refused).toMatchObject({ exitCode: 5 });
  await expect(readFile(join(folder, "same.safetensors"))).rejects.toMatchObject({ code: "ENOENT" });
});

test("exit codes tell failures apart", async () => {
  // A port that nobody listens on: the kernel's own choice is never this one.
  const nobody = ["--address", "127.0.0.1:1"];
  const [missing, forged, unavailable, invalid, usage] = await Promise.all([
    failure(["generate", ...SAME, "--persona", "nobody"]),
    failure(["--token", "forged", "generate", ...SAME]),
    failure([...nobody, "generate", ...SAME]),
    failure(["generate", "x ".repeat(9000)]),
    failure(["generate", ...SAME, "--persona", "loud", "--unsteered"]),
  ]);
  expect(missing).toMatchObject({ code: "NOT_FOUND", reason: "PERSONA_NOT_FOUND", exitCode: 4 });
  expect(missing.requestId).toEqual(expect.any(String));
  expect(forged).toMatchObject({ code: "UNAUTHENTICATED", reason: "TOKEN_INVALID", exitCode: 3 });
  expect(unavailable).toMatchObject({ code: "UNAVAILABLE", reason: "UNAVAILABLE", exitCode: 6 });
  expect(invalid).toMatchObject({ code: "INVALID_ARGUMENT", reason: "PROMPT_TOO_LONG", exitCode: 5 });
  expect(usage).toMatchObject({ code: "USAGE", exitCode: 2 });
});
