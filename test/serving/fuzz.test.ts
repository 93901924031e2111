import type { GenerateInput, InferenceClient } from "@persona-mesh/client";
import { Pooling } from "@persona-mesh/protocol";
import { ClientError } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect } from "../support/failure.ts";
import { personaName, type TestPersona, writeTenant } from "../support/personas.ts";
import { uniform } from "../support/random.ts";
import { ask, fingerprint, textPrompt, tokensPrompt } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { until } from "../support/until.ts";

const SEED = 20_261_122;

/** Calls in all, and how many are under way at once: more than slots and queue hold. */
const CALLS = 300;
const AT_ONCE = 24;

const ACME: readonly TestPersona[] = [
  { name: "loud", seed: 1, layers: [2, 3] },
  { name: "calm", seed: 2, layers: [1, 4, 5], alpha: -0.3, mode: "ADD_RENORM" },
  { name: "late", seed: 3, layers: [3], positions: "GENERATED" },
  { name: "early", seed: 4, layers: [0, 1], positions: "PROMPT" },
];
const GLOBEX: readonly TestPersona[] = [{ name: "loud", seed: 5, layers: [2, 3, 4], alpha: 0.3 }];

/** What a call may end with; anything else is a defect. */
const EXPECTED = [
  "CANCELLED",
  "DEADLINE_EXCEEDED",
  "QUEUE_FULL",
  "PERSONA_NOT_FOUND",
  "PROMPT_EMPTY",
  "TOKEN_ID_OUT_OF_RANGE",
];

let stage: Stage;
let globex: InferenceClient;

beforeAll(async () => {
  // The table holds any persona, and not all of them: admission waits for rows too.
  stage = await openStage({ slots: 5, queueCapacity: 12, chunkTokens: 16, tableRows: 8 }, ACME);
  await writeTenant(stage.mesh.personasDir, "globex", stage.served, GLOBEX);
  globex = await stage.mesh.client({ tenant: "globex" });
  await until(async () => (await collect(globex.listLoadedPersonas())).length === 1, "globex is loaded");
});

afterAll(() => stage.mesh.close());

test(`${CALLS} random calls with random ends leave nothing behind, and change nobody's reply (seed ${SEED})`, async () => {
  const { client, service, mesh } = stage;
  const figures = () => mesh.running.worker.engine.figures();
  const reference = ask("Where is my parcel?", { as: personaName("acme", "loud"), maxTokens: 15 });
  const before = fingerprint(await client.generateText(reference));

  const next = uniform(SEED);
  const below = (limit: number) => Math.floor(next() * limit);
  const pick = <Item>(...items: readonly Item[]): Item => items[below(items.length)] as Item;
  const words = () => "I would like to know where it is. ".repeat(1 + below(8));

  const request = (tenant: "acme" | "globex"): GenerateInput => {
    const prompt = pick<GenerateInput["prompt"]>(
      textPrompt(words()),
      ask(words()).prompt,
      tokensPrompt(Array.from({ length: below(60) }, () => below(next() < 0.002 ? 1 << 20 : 1000))),
    );
    const names = tenant === "acme" ? ACME : GLOBEX;
    const as = pick("", ...names.map(({ name }) => personaName(tenant, name)), personaName("globex", "calm"));
    const maxTokens = 1 + below(40);
    return ask("", {
      prompt: prompt as object,
      as,
      gain: pick(0, 0.5, 1),
      seed: BigInt(below(1 << 30)),
      maxTokens,
      minTokens: pick(0, 0, below(maxTokens + 1)),
      stopTokenIds: pick([], [below(1000)]),
      promptLogProbs: next() < 0.1,
      stop: pick([], ["e"], ["\n", "zz"]),
      ignoreEos: pick(true, false),
      topLogProbs: pick(0, 0, 20),
      sampling: {
        temperature: pick(0, 0.7, 1, 10),
        topK: pick(0, 1, 40, 100_000),
        topP: pick(1, 0.9, 1e-3),
        minP: pick(0, 0.1),
        repetitionPenalty: pick(1, 1, 1.3),
        presencePenalty: pick(0, 0, -0.5),
        frequencyPenalty: pick(0, 0, 0.4),
        logitBias: pick([], [], [{ id: below(1000), bias: -100 }]),
      },
    });
  };

  const one = async (): Promise<string> => {
    const options = {
      ...(next() < 0.2 ? { signal: AbortSignal.timeout(below(60)) } : {}),
      ...(next() < 0.2 ? { timeoutMs: 1 + below(80) } : {}),
    };
    const tenant = pick("acme", "globex");
    const caller = tenant === "acme" ? client : globex;
    try {
      const kind = next();
      if (kind < 0.1) {
        const continuations = Array.from({ length: 1 + below(4) }, () => ({
          input: { case: "text" as const, value: words() },
        }));
        const { prompt, persona } = request(tenant);
        await caller.score({ prompt: prompt as object, persona: persona as object, continuations }, options);
      } else if (kind < 0.2) {
        const samples = Array.from({ length: 1 + below(6) }, () => ({
          prompt: textPrompt(words()),
          response: words(),
        }));
        await collect(service.captureActivations({ samples, pooling: Pooling.RESPONSE_MEAN }, options));
      } else {
        let left = next() < 0.3 ? below(10) : Number.POSITIVE_INFINITY;
        for await (const _ of caller.generate(request(tenant), options)) if (--left < 0) break;
      }
      return "OK";
    } catch (error) {
      return ClientError.from(error).reason;
    }
  };

  const ends = new Map<string, number>();
  let begun = 0;
  const worker = async () => {
    while (begun++ < CALLS) {
      const end = await one();
      ends.set(end, (ends.get(end) ?? 0) + 1);
      // As a client does that is told to come back: else refusals would be most of the storm.
      if (end === "QUEUE_FULL") await until(() => figures().waiting < figures().queueCapacity / 2, "room in the queue");
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));

  expect([...ends.values()].reduce((sum, count) => sum + count, 0)).toBe(CALLS);
  expect([...ends.keys()].filter((end) => end !== "OK" && !EXPECTED.includes(end))).toEqual([]);
  // It was a storm: calls of every kind of end were in it.
  expect(ends.get("OK")).toBeGreaterThan(50);
  expect(ends.get("CANCELLED")).toBeGreaterThan(0);
  expect(ends.get("QUEUE_FULL")).toBeGreaterThan(0);

  const { table } = mesh.running.worker;
  await until(() => figures().running === 0 && mesh.running.server.runningCalls === 0, "everything has ended");
  expect(figures()).toMatchObject({ running: 0, prefilling: 0, decoding: 0, waiting: 0, positions: 0 });
  expect(table.figures()).toMatchObject({ rowsHeld: 0, heldPersonas: 0 });
  expect(table.figures().evictions).toBeGreaterThan(0);
  expect(mesh.log().filter(({ level }) => level === "error" || level === "fatal")).toEqual([]);

  // In every slot, all at once.
  const after = await Promise.all(Array.from({ length: 5 }, () => client.generateText(reference)));
  for (const reply of after) expect(fingerprint(reply)).toEqual(before);
});
