import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceClient } from "@persona-mesh/client";
import { importCheckpoint } from "@persona-mesh/model";
import { ensureDevKeys, signDevToken } from "@persona-mesh/service";
import { expect, onTestFinished, test } from "vitest";
import { collect } from "../support/failure.ts";
import { personaName, writeTenant } from "../support/personas.ts";
import { ask, fingerprint, textPrompt, tokensPrompt } from "../support/requests.ts";
import { askServedModel } from "../support/served-model.ts";
import { temporaryFolder } from "../support/temporary-folder.ts";
import { until } from "../support/until.ts";
import { startWorkerProcess } from "../support/worker-process.ts";

/** A Qwen3 as its publisher would upload it; made, with the reference, by tools/model-fixtures/served_reference.py. */
const FIXTURE = fileURLToPath(new URL("../fixtures/any-checkpoint", import.meta.url));

/** One prompt, and what Hugging Face transformers computes after it in float32. */
interface Case {
  readonly chat?: readonly { readonly role: string; readonly content: string }[];
  readonly text?: string;
  readonly prompt: readonly number[];
  readonly continuation: readonly number[];
  readonly logProbs: readonly number[];
}

const PERSONA = { name: "other", seed: 4, layers: [1, 2], alpha: 0.5 } as const;
const NAME = personaName("acme", PERSONA.name);

// Log-probabilities of any tokens, not of likely ones, between −20 and −2.
test.for([
  { precision: "float32", most: 1e-3, mean: 1e-3 },
  // Rounding of a tiny random model, where every weight matters; measured: 0.42 and 0.13.
  { precision: "int8", most: 0.6, mean: 0.2 },
] as const)("a checkpoint in $precision is imported, served, scored like the reference, and steered", async (run) => {
  const folder = await temporaryFolder();
  const model = join(folder, "model");
  const dataDir = join(folder, "data");
  const imported = await importCheckpoint(join(FIXTURE, "checkpoint"), model, { precision: run.precision });
  const worker = await startWorkerProcess({ model, "data-dir": dataDir, slots: "4", "chunk-tokens": "16" });
  const token = await signDevToken(await ensureDevKeys(dataDir), {
    subject: "tester",
    tenant: "acme",
    roles: ["operator", "service"],
  });
  const client = new InferenceClient({ address: worker.address, token });
  onTestFinished(() => client.close());

  const served = await askServedModel(client);
  expect(served.model).toMatchObject({
    modelChecksum: imported.manifest.modelChecksum,
    graphDigest: imported.manifest.graphDigest,
  });

  const differences: number[] = [];
  const cases: Case[] = JSON.parse(await readFile(join(FIXTURE, "reference.json"), "utf8"));
  for (const { chat, text, prompt, continuation, logProbs } of cases) {
    const spoken =
      chat === undefined
        ? textPrompt(text ?? "")
        : { input: { case: "chat" as const, value: { messages: [...chat] } } };
    const continuations = [{ input: { case: "tokenIds" as const, value: { ids: [...continuation] } } }];
    const persona = { selector: { case: "unsteered" as const, value: {} } };
    const asked = await client.score({ prompt: spoken, persona, continuations });
    const scored = asked.continuations[0]?.unsteered?.logProbs ?? [];
    expect(scored).toHaveLength(continuation.length);
    differences.push(...scored.map((value, at) => Math.abs(value - (logProbs[at] as number))));
    // Its tokens are the reference's: the same to the bit as those ids.
    expect(await client.score({ prompt: tokensPrompt(prompt), persona, continuations })).toMatchObject({
      continuations: [{ unsteered: { logProbs: scored } }],
    });
  }
  expect(Math.max(...differences)).toBeLessThan(run.most);
  expect(differences.reduce((sum, value) => sum + value) / differences.length).toBeLessThan(run.mean);

  await writeTenant(join(dataDir, "personas"), "acme", served, [PERSONA]);
  await until(async () => (await collect(client.listLoadedPersonas())).length === 1, "the persona is in force");
  const greedy = { sampling: { temperature: 0 } };
  const question = "Where is my order?";
  const alone = await client.generateText(ask(question, greedy));
  expect(alone.tokens).toHaveLength(24);
  const [steered, beside] = await Promise.all([
    client.generateText(ask(question, { ...greedy, as: NAME })),
    client.generateText(ask(question, greedy)),
  ]);
  expect(fingerprint(beside)).toEqual(fingerprint(alone));
  expect(steered.started.persona?.name).toBe(NAME);
  expect(steered.text).not.toBe(alone.text);
});
