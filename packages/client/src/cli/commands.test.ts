import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GenerateRequest } from "@persona-mesh/protocol";
import { ServiceError } from "@persona-mesh/service";
import { decodeGuardBaseline, decodeVector, versionDigest } from "@persona-mesh/steering";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { persona } from "../testing/run-persona.ts";
import {
  MODEL_CHECKSUM,
  proofOf,
  replyOf,
  type ScriptedWorker,
  startScriptedWorker,
  until,
} from "../testing/scripted-worker.ts";
import { SHAPE, SyntheticWorker } from "../testing/synthetic-activations.ts";

let worker: ScriptedWorker;
let folder: string;
let requests: GenerateRequest[];
let cancelled: number;
const synthetic = new SyntheticWorker();

beforeAll(async () => {
  worker = await startScriptedWorker({
    async *generate(request, { signal }) {
      requests.push(request);
      const selector = request.persona?.selector;
      const name = selector?.case === "name" ? selector.value : undefined;
      if (name?.endsWith("/missing")) throw new ServiceError("PERSONA_NOT_FOUND", `no persona "${name}"`);
      if (name?.endsWith("/escape")) {
        yield* replyOf(["\u001b[2J", "gone?"]);
        return;
      }
      if (name?.endsWith("/slow") || (selector?.case === "unsteered" && request.maxTokens === 77)) {
        yield* replyOf(["one "]).slice(0, 2);
        await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
        cancelled++;
        return;
      }
      yield* replyOf(name === undefined ? ["Your parcel ", "is late."] : ["Hooray! ", "Your parcel ", "flies!"], name);
    },
    listLoadedPersonas: async (_request, { caller }) => ({
      personas: [{ proof: proofOf(`tenants/${caller.tenant}/personas/cheerful`), active: true, resident: false }],
    }),
    getModel: async () => ({
      ...SHAPE,
      modelChecksum: MODEL_CHECKSUM,
      graphDigest: "b".repeat(64),
      architecture: "llama",
      contextTokens: 1024,
    }),
    captureActivations: (request) => synthetic.captureActivations(request),
  });
  folder = await mkdtemp(join(tmpdir(), "persona-cli-"));
});

afterAll(async () => {
  await worker[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

beforeEach(() => {
  requests = [];
  cancelled = 0;
});

/** The command line with the worker's address and development keys. */
const run = (argv: string[], options: Parameters<typeof persona>[1] = {}) =>
  persona([...argv, "--address", worker.address, "--data-dir", worker.dataDir], { cwd: folder, ...options });

describe("generate", () => {
  it("prints the text alone on stdout, and says on stderr whose token it made", async () => {
    const { code, stdout, stderr } = await run(["generate", "Where is it?", "--persona", "cheerful"]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "Hooray! Your parcel flies!\n" });
    expect(stderr).toBe("using a development token: tenant acme, role operator\n");
    expect(requests[0]?.persona?.selector).toEqual({ case: "name", value: "tenants/acme/personas/cheerful" });
  });

  it("sends what the options say", async () => {
    const sampling = ["--temperature", "0.5", "--top-k", "40", "--top-p", "0.9", "--min-p", "0.05", "--seed", "0xff"];
    const rest = [
      "--max-tokens",
      "9",
      "--stop",
      "\n",
      "--stop",
      "END",
      "--system",
      "Be kind.",
      "--gain",
      "0.5",
      "--ignore-eos",
    ];
    expect((await run(["generate", "Hi", ...sampling, ...rest, "--active", "--follow"])).code).toBe(0);
    expect(requests[0]).toMatchObject({
      prompt: {
        input: {
          case: "chat",
          value: {
            messages: [
              { role: "system", content: "Be kind." },
              { role: "user", content: "Hi" },
            ],
          },
        },
      },
      persona: { selector: { case: "active", value: { follow: true } }, gain: 0.5 },
      sampling: { temperature: 0.5, topK: 40, topP: 0.9, minP: 0.05, seed: 255n },
      maxTokens: 9,
      stop: ["\n", "END"],
      ignoreEos: true,
    });
  });

  it("sends what the options say of penalties, lengths, revision and guard", async () => {
    const penalties = ["--repetition-penalty", "1.2", "--presence-penalty", "-0.5", "--frequency-penalty", "0.25"];
    const biases = ["--logit-bias", "7=-100", "--logit-bias", "9=1.5"];
    const ends = ["--min-tokens", "3", "--stop-token", "5", "--stop-token", "6"];
    const told = ["--json", "--logprobs", "4", "--prompt-logprobs", "--no-twin", "--guard-observe"];
    const worn = ["--persona", "cheerful", "--revision", "12", "--gain", "0.5"];
    const { code, stdout } = await run(["generate", "Hi", ...penalties, ...biases, ...ends, ...told, ...worn]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).logProbs[0]).toMatchObject({ id: expect.any(Number), logProb: expect.any(Number) });
    const selector = { case: "revision", value: "tenants/acme/personas/cheerful/revisions/12" };
    expect(requests[0]).toMatchObject({
      persona: { selector, gain: 0.5 },
      sampling: {
        repetitionPenalty: 1.2,
        presencePenalty: -0.5,
        frequencyPenalty: 0.25,
        logitBias: [
          { id: 7, bias: -100 },
          { id: 9, bias: 1.5 },
        ],
      },
      minTokens: 3,
      stopTokenIds: [5, 6],
      topLogProbs: 4,
      promptLogProbs: true,
      guard: { twin: false, observeOnly: true, twinActs: false },
    });
  });

  it("leaves everything that was not said to the worker", async () => {
    await run(["generate", "Hi", "--raw"]);
    const [request] = requests;
    expect(request?.prompt?.input).toEqual({ case: "text", value: "Hi" });
    expect(request?.persona).toBeUndefined();
    expect(request?.maxTokens).toBeUndefined();
    expect(request?.sampling?.temperature).toBeUndefined();
    expect(request?.sampling?.seed).toBeUndefined();
  });

  it.each([[["-"]], [[]]])("reads the prompt from the standard input for %j", async (argument) => {
    await run(["generate", ...argument, "--raw"], { stdin: "Grüße\n世界\n" });
    expect(requests[0]?.prompt?.input.value).toBe("Grüße\n世界");
  });

  it("shows escape sequences of a reply on a terminal, and writes them as they are to a file", async () => {
    const shown = await run(["generate", "Hi", "--persona", "escape"], { columns: 80, env: { NO_COLOR: "1" } });
    expect(shown.stdout).toBe("␛[2Jgone?\n");
    expect((await run(["generate", "Hi", "--persona", "escape"])).stdout).toBe("\u001b[2Jgone?\n");
  });

  it("prints one JSON object with text, proof, counts and timings, and nothing else anywhere", async () => {
    const { stdout, stderr } = await run(["generate", "Hi", "--persona", "cheerful", "--json"]);
    expect(stderr).toBe("");
    expect(stdout.split("\n")).toHaveLength(2);
    expect(JSON.parse(stdout)).toMatchObject({
      text: "Hooray! Your parcel flies!",
      finishReason: "END",
      proof: {
        requestId: "r1",
        modelChecksum: MODEL_CHECKSUM,
        seed: "7",
        persona: { name: "tenants/acme/personas/cheerful", mode: "ADD", doses: [{ layer: 3, dose: 0.35 }] },
      },
      tokens: { prompt: 3, completion: 3 },
      effectiveAlpha: 0.35,
      timings: { decodeMillis: 100, tokensPerSecond: 30 },
    });
  });

  it("ends with 130 on an interrupt, and the worker stops", async () => {
    const { code, stdout, stderr } = await run(["generate", "Hi", "--persona", "slow"], {
      interruptOn: (written) => written.includes("one"),
    });
    expect({ code, stdout }).toEqual({ code: 130, stdout: "one " });
    expect(stderr).toContain("CANCELLED [INTERRUPTED] stopped by SIGINT\n");
    await until(() => cancelled === 1, "the worker hears of it");
  });

  it("ends with 6 when --timeout passes", async () => {
    const { code, stderr } = await run(["generate", "Hi", "--persona", "slow", "--timeout", "200ms"]);
    expect(code).toBe(6);
    expect(stderr).toContain("DEADLINE_EXCEEDED [DEADLINE_EXCEEDED]");
  });

  it("says what the worker says, as JSON where asked", async () => {
    const plain = await run(["generate", "Hi", "--persona", "missing"]);
    expect(plain.code).toBe(4);
    expect(plain.stderr).toContain('NOT_FOUND [PERSONA_NOT_FOUND] no persona "tenants/acme/personas/missing"\n');
    const json = await run(["generate", "Hi", "--persona", "missing", "--json"]);
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { reason: "PERSONA_NOT_FOUND", exitCode: 4 } });
    expect(json.stdout).toBe("");
  });
});

describe("who calls", () => {
  it("takes the tenant from the token that is given", async () => {
    const token = await worker.token(["operator"], "globex");
    await writeFile(join(folder, "token"), `${token}\n`);
    await run(["generate", "Hi", "--persona", "cheerful", "--token", token]);
    await run(["generate", "Hi", "--persona", "cheerful", "--token-file", "token"]);
    await run(["generate", "Hi", "--persona", "cheerful"], { env: { PERSONA_TOKEN: token } });
    expect(requests.map(({ persona: selected }) => selected?.selector.value)).toEqual([
      "tenants/globex/personas/cheerful",
      "tenants/globex/personas/cheerful",
      "tenants/globex/personas/cheerful",
    ]);
  });

  it("makes a token for the tenant that is named", async () => {
    const { stdout } = await run(["personas", "--tenant", "globex", "--json"]);
    expect(JSON.parse(stdout).personas[0].name).toBe("tenants/globex/personas/cheerful");
  });

  it("ends with 3 without a token, with a forged one, and without the right role", async () => {
    const none = await persona(["personas", "--address", worker.address], { cwd: folder });
    expect([none.code, none.stderr]).toEqual([3, expect.stringContaining("UNAUTHENTICATED [TOKEN_MISSING]")]);
    const forged = await run(["personas", "--token", "forged"]);
    expect([forged.code, forged.stderr]).toEqual([3, expect.stringContaining("UNAUTHENTICATED [TOKEN_INVALID]")]);
    const viewer = await run(["generate", "Hi", "--token", await worker.token(["viewer"])]);
    expect([viewer.code, viewer.stderr]).toEqual([3, expect.stringContaining("PERMISSION_DENIED [PERMISSION_DENIED]")]);
  });

  it("ends with 6 where nobody listens", async () => {
    const { code, stderr } = await persona(["personas", "--address", "127.0.0.1:1", "--token", "t"]);
    expect([code, stderr]).toEqual([6, expect.stringMatching(/^UNAVAILABLE \[UNAVAILABLE\] .*127\.0\.0\.1:1\.\n$/)]);
  });
});

describe("compare", () => {
  it("asks for both with the same prompt and seed, and lays them side by side with their figures", async () => {
    const { code, stdout } = await run(["compare", "Where is it?", "--persona", "cheerful", "--seed", "9"], {
      env: { COLUMNS: "60" },
    });
    expect(code).toBe(0);
    expect(requests.map(({ sampling }) => sampling?.seed)).toEqual([9n, 9n]);
    expect(new Set(requests.map((request) => request.persona?.selector.case))).toEqual(new Set(["name", "unsteered"]));
    expect(stdout).toMatchInlineSnapshot(`
      "cheerful, alpha 0.35         │ unsteered
      ─────────────────────────────┼─────────────────────────────
      Hooray! Your parcel flies!   │ Your parcel is late.

                 tokens  entropy  surprisal  repetition  alpha
      persona         3    1.250      0.500       0.100   0.35
      unsteered       2    1.250      0.500       0.100   0.00
      "
    `);
  });

  it("chooses one seed for both where none is given", async () => {
    await run(["compare", "Hi", "--active"]);
    expect(requests[0]?.sampling?.seed).toBeDefined();
    expect(requests[1]?.sampling?.seed).toBe(requests[0]?.sampling?.seed);
  });

  it("cancels the other stream when one fails, and says why that one failed", async () => {
    const { code, stderr } = await run(["compare", "Hi", "--persona", "missing", "--max-tokens", "77"]);
    expect([code, stderr]).toEqual([4, expect.stringContaining("PERSONA_NOT_FOUND")]);
    await until(() => cancelled === 1, "the worker hears that the unsteered stream is not wanted");
  });

  it("prints both replies as JSON", async () => {
    const { stdout } = await run(["compare", "Hi", "--persona", "cheerful", "--seed", "9", "--json"]);
    expect(JSON.parse(stdout)).toMatchObject({
      seed: "9",
      steered: { text: "Hooray! Your parcel flies!", effectiveAlpha: 0.35 },
      unsteered: { text: "Your parcel is late.", effectiveAlpha: 0, proof: { persona: null } },
    });
  });
});

describe("model baseline", () => {
  const command = ["model", "baseline", "--prompts", "prompts.jsonl", "--out", "measured.json"];

  it("writes a file of the worker's replies", async () => {
    const asked = Array.from({ length: 8 }, (_, i) => `{"prompt":"ask ${i}"}\n`).join("");
    await writeFile(join(folder, "prompts.jsonl"), asked);
    const twice = ["--temperature", "0.6", "--temperature", "0.6", "--seed", "9", "--max-tokens", "5"];
    const { code, stdout } = await run([...command, ...twice]);
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: expect.stringMatching(
        /^TEMPERATURE +REPLIES +TOKENS +ENTROPY +REPETITION\n +0\.6 +8 +2\.0 +1\.250 +0\.000\n$/,
      ),
    });
    // Several are asked at a time: they come in any order.
    const asks = requests.map(({ sampling, maxTokens }) => [sampling?.temperature, Number(sampling?.seed), maxTokens]);
    expect(asks.toSorted(([, a = 0], [, b = 0]) => a - b)).toEqual(
      Array.from({ length: 8 }, (_, i) => [0.6, 9 + i, 5]),
    );
    const { modelChecksum, samples } = decodeGuardBaseline(await readFile(join(folder, "measured.json"), "utf8"));
    expect(modelChecksum).toBe(MODEL_CHECKSUM);
    expect(samples).toMatchObject([{ temperature: 0.6, maxTokens: 5, coherence: { meanEntropy: 1.25 } }]);
    expect((await run([...command, "--json"])).stderr).toContain('"FILE_EXISTS"');
    const again = await run([...command, "--overwrite", "--json"]);
    expect(JSON.parse(again.stdout)).toMatchObject({ modelChecksum, samples: [{ temperature: 1, replies: 8 }] });
  });

  it("says which prompt is none", async () => {
    await writeFile(join(folder, "prompts.jsonl"), "{}\n");
    const { code, stderr } = await run(command);
    expect([code, stderr]).toEqual([5, expect.stringContaining("line 1, prompt")]);
    expect(requests).toEqual([]);
  });
});

describe("personas and model served", () => {
  it("lists the tenant's personas", async () => {
    const { stdout } = await run(["personas"]);
    expect(stdout).toMatchInlineSnapshot(`
      "NAME                            ALPHA  MODE  LAYERS  OUTCOME   REVISION  ACTIVE  RESIDENT
      tenants/acme/personas/cheerful   0.35  ADD   3       ACCEPTED  rev-1     yes     no
      "
    `);
  });

  it("tells what the worker serves", async () => {
    expect((await run(["model", "served"])).stdout).toContain(`model checksum    ${"a".repeat(64)}\n`);
    expect(JSON.parse((await run(["model", "served", "--json"])).stdout)).toMatchObject({ layers: 4, hiddenSize: 8 });
  });
});

describe("vector extract", () => {
  const pairs = Array.from({ length: 40 }, (_, i) => ({
    prompt: `q ${i}`,
    positive: `glad ${i}`,
    negative: `no ${i}`,
  }));
  const samples = Array.from({ length: 20 }, (_, i) => ({ prompt: `p ${i}`, response: `r ${i}` }));
  const extract = (...more: string[]) => [
    ...["vector", "extract", "--pairs", "pairs.json", "--baseline", "baseline.json", "--name", "cheerful"],
    ...["--out", "out.safetensors", "--layers", "1-2", ...more],
  ];

  beforeEach(async () => {
    for (const name of await readdir(folder)) await rm(join(folder, name));
    await writeFile(join(folder, "pairs.json"), JSON.stringify({ pairs }));
    await writeFile(join(folder, "baseline.json"), JSON.stringify({ samples }));
  });

  it("writes a vector file, its digest, and a line of figures per layer", async () => {
    const { code, stdout, stderr } = await run(extract());
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringContaining("role service") });
    const bytes = await readFile(join(folder, "out.safetensors"));
    expect(decodeVector(bytes).manifest).toMatchObject({ name: "cheerful", layers: [1, 2], pairCount: 40 });
    expect(stdout).toContain(`${versionDigest(bytes)}  out.safetensors\n`);
    expect(stdout).toMatch(/^LAYER +AUC .*\n +1 +1\.000 .* yes\n +2 +1\.000 .* yes\n/);
    expect(await readdir(folder)).toEqual(["baseline.json", "out.safetensors", "pairs.json"]);
  });

  it("chooses a tone of a file of several, and prints the manifest as JSON", async () => {
    await writeFile(join(folder, "pairs.json"), JSON.stringify({ tones: { cheerful: { pairs } } }));
    expect((await run(extract())).stderr).toMatch(/INVALID_ARGUMENT \[FILE_INVALID\] .*choose one of: cheerful/);
    const { stdout } = await run(extract("--tone", "cheerful", "--json"));
    expect(JSON.parse(stdout)).toMatchObject({ manifest: { name: "cheerful", pooling: "response_mean" } });
  });

  it("never replaces a file unless told to, and asks before any work", async () => {
    await writeFile(join(folder, "out.safetensors"), "precious");
    const calls = synthetic.requests.length;
    const refused = await run(extract());
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining("ALREADY_EXISTS [FILE_EXISTS]")]);
    expect(synthetic.requests.length).toBe(calls);
    expect(await readFile(join(folder, "out.safetensors"), "utf8")).toBe("precious");
    expect((await run(extract("--overwrite"))).code).toBe(0);
    expect(decodeVector(await readFile(join(folder, "out.safetensors"))).manifest.name).toBe("cheerful");
  });

  it("refuses pairs that say nothing with 5, shows why, and writes nothing", async () => {
    const mixed = pairs.map((pair, i) =>
      i % 2 ? pair : { ...pair, positive: pair.negative, negative: pair.positive },
    );
    await writeFile(join(folder, "pairs.json"), JSON.stringify({ pairs: mixed }));
    const { code, stderr } = await run(extract());
    expect(code).toBe(5);
    expect(stderr).toMatch(/LAYER +AUC[\s\S]* no\n[\s\S]*FAILED_PRECONDITION \[NO_SEPARATION\] layer 1/);
    expect(await readdir(folder)).toEqual(["baseline.json", "pairs.json"]);
  });

  it("leaves nothing behind when it is interrupted", async () => {
    const { code } = await run(extract(), { columns: 80, interruptOn: (written) => written.includes("captured") });
    expect(code).toBe(130);
    expect(await readdir(folder)).toEqual(["baseline.json", "pairs.json"]);
  });
});
