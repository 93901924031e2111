import { afterAll, beforeAll, expect, test } from "vitest";
import { personaName } from "../support/personas.ts";
import { type AskOptions, ask, fingerprint } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";

// Prompts that begin alike, over gRPC: what is told of the tokens that were there, and that the reply is the same.

const LOUD = personaName("acme", "loud");
const STORY = "Once upon a time there was a small fox who lived in a big forest, and every day it went to the river. ";

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ slots: 3, chunkTokens: 16 }, [{ name: "loud", seed: 1, layers: [2, 3] }]);
});

afterAll(() => stage.mesh.close());

async function reply(content: string, options: AskOptions = {}, client = stage.client) {
  const told = await client.generateText(ask(content, { maxTokens: 12, ...options }));
  return { cached: told.finished.cachedPromptTokens, promptTokens: told.finished.promptTokens, is: fingerprint(told) };
}

test("a prompt that comes again is not read again, and gets the same reply to the bit, alone and beside others", async () => {
  const [first, again] = [await reply(STORY), await reply(STORY)];
  expect(first.cached).toBe(0);
  expect(again.cached).toBeGreaterThan(0);
  expect(again.cached % 16).toBe(0);
  expect(again.cached).toBeLessThan(again.promptTokens);
  expect(again.is).toEqual(first.is);
  const beside = await Promise.all([reply(STORY), reply(`${STORY}The end.`), reply(STORY, { as: LOUD })]);
  expect(beside[0]).toEqual(again);
  expect(beside[1]?.cached).toBeGreaterThan(0);
  expect(stage.mesh.running.worker.engine.prefixFigures()).toMatchObject({ hits: 3, evictions: 0 });
});

test("a persona has its own, and another tenant nothing of either", async () => {
  const steered = await reply(`${STORY}It was glad.`, { as: LOUD });
  const again = await reply(`${STORY}It was glad.`, { as: LOUD });
  expect(again.cached).toBeGreaterThan(0);
  expect(again.is).toEqual(steered.is);
  const elsewhere = await stage.mesh.client({ tenant: "globex" });
  const [foreign, plain] = [await reply(STORY, {}, elsewhere), await reply(STORY)];
  expect(foreign.cached).toBe(0);
  expect(plain.cached).toBeGreaterThan(0);
  expect(foreign.is).toEqual(plain.is);
});
