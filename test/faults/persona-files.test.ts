import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { InferenceClient } from "@persona-mesh/client";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect } from "../support/failure.ts";
import { personaName, replaceFile, vectorBytes, vectorFile, writeTenant } from "../support/personas.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { askServedModel, type ServedModel } from "../support/served-model.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";

const LOUD = { name: "loud", seed: 1, layers: [2, 3] };
const CALM = { name: "calm", seed: 2, layers: [3] };

let mesh: TestWorker;
let client: InferenceClient;
let served: ServedModel;
/** Of acme. */
let folder: string;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 2 });
  client = await mesh.client();
  served = await askServedModel(await mesh.client({ roles: ["service"] }));
  folder = join(mesh.personasDir, "acme");
  await writeTenant(mesh.personasDir, "globex", served, [{ name: "secret", seed: 9, layers: [2] }]);
});

afterAll(() => mesh.close());

const loaded = async () => (await collect(client.listLoadedPersonas())).map(({ proof, active }) => ({ proof, active }));
const names = async () => (await loaded()).map(({ proof }) => proof?.name);
const refusals = () =>
  mesh.log().filter(({ msg, tenant }) => String(msg).startsWith("personas refused") && tenant === "acme");
const speak = async () =>
  fingerprint(await client.generateText(ask("hello", { as: personaName("acme", "loud"), maxTokens: 4 })));

interface Term {
  readonly vector: string;
  readonly alpha: unknown;
  readonly layers?: readonly number[];
}

/** A file in which `calm` is as the test says, beside a `loud` that is changed too: neither may come into force. */
function fileWith(
  calm: { readonly [field: string]: unknown; readonly terms?: readonly Term[] },
  file: object = {},
): string {
  const loud = { name: "loud", terms: [{ vector: vectorFile(LOUD), alpha: 0.11 }] };
  const term = { vector: vectorFile(CALM), alpha: 0.2 };
  return JSON.stringify({ personas: [loud, { name: "calm", terms: [term], ...calm }], ...file });
}

const withTerm = (term: Partial<Term>, file: object = {}) =>
  fileWith({ terms: [{ vector: vectorFile(CALM), alpha: 0.2, ...term }] }, file);

/** Put a spoilt vector file beside the others. */
async function vector(name: string, bytes: Uint8Array): Promise<string> {
  await writeFile(join(folder, name), bytes);
  return withTerm({ vector: name });
}

const CASES: readonly [name: string, says: string, spoil: () => string | Promise<string>][] = [
  ["alpha over the cap of its context", "0.51 is over the cap 0.50", () => withTerm({ alpha: 0.51 })],
  ["negative alpha over the cap", "is over the cap 0.50", () => withTerm({ alpha: -0.51 })],
  ["alpha over the hard cap", "0.81 is over the cap 0.80", () => withTerm({ alpha: 0.81 }, { context: "INTERNAL" })],
  ["alpha over the tenant's own cap", "is over the cap 0.10", () => withTerm({}, { alphaCap: 0.1 })],
  ["a cap over that of the context", "0.60", () => withTerm({}, { alphaCap: 0.6 })],
  ["alpha in thousandths", "two decimals", () => withTerm({ alpha: 0.123 })],
  ["alpha that is no number", "alpha", () => withTerm({ alpha: null })],
  [
    "more dose over all layers than the budget",
    "over the budget",
    async () => {
      const wide = { name: "wide", seed: 3, layers: [0, 1, 2, 3] };
      await writeFile(join(folder, vectorFile(wide)), vectorBytes(served, wide));
      return withTerm({ vector: vectorFile(wide), alpha: 0.5 });
    },
  ],
  ["a layer that the vector has not", "layer 1", () => withTerm({ layers: [1] })],
  ["no JSON", "JSON", () => fileWith({}).slice(0, -1)],
  ["a field that nobody knows", "gain", () => fileWith({ gain: 2 })],
  ["a name that is no name", "name", () => fileWith({ name: "../calm" })],
  ["two of one name", "there twice", () => fileWith({ name: "loud" })],
  ["an active persona that is not there", "no persona is named", () => fileWith({}, { active: "nobody" })],
  ["no vector file", "ENOENT", () => withTerm({ vector: "none.safetensors" })],
  ["a vector of another tenant", "plain file name", () => withTerm({ vector: "../globex/secret-9.safetensors" })],
  ["a vector file that is none", "vector file", () => vector("noise.bin", Buffer.from("not a vector file at all"))],
  ["a vector cut off", "vector file", () => vector("cut.bin", vectorBytes(served, CALM).slice(0, -4))],
  [
    "a vector with NaN",
    "NaN",
    () => {
      const bytes = vectorBytes(served, CALM);
      bytes.fill(0xff, bytes.length - 4);
      return vector("nan.bin", bytes);
    },
  ],
  [
    "a vector of another model",
    "was made on model",
    () => vector("foreign.bin", vectorBytes(served, CALM, { modelChecksum: "0".repeat(64) })),
  ],
  [
    "a vector of another width",
    "hidden size",
    () => vector("narrow.bin", vectorBytes(served, CALM, { hiddenSize: 16 })),
  ],
];

test.each(CASES)("%s: the whole file is refused, and the last good one stays in force", async (_, says, spoil) => {
  await writeTenant(mesh.personasDir, "acme", served, [LOUD, { ...CALM, alpha: 0.2 }], { active: "calm" });
  await until(async () => (await names()).length === 2, "two good personas are loaded");
  const good = { loaded: await loaded(), reply: await speak() };
  const before = refusals().length;

  await replaceFile(join(folder, "personas.json"), await spoil());
  // Files beside it may have been looked at in between: what counts is the reading of this one.
  await until(
    () =>
      refusals()
        .slice(before)
        .some(({ err }) => messageOf(err).includes(says)),
    `a refusal that says ${says}`,
  );
  expect({ loaded: await loaded(), reply: await speak() }).toEqual(good);
});

test("after refusals a good file comes into force, and a tenant whose folder goes takes its personas along", async () => {
  const before = refusals().length;
  await replaceFile(join(folder, "personas.json"), "{");
  await until(() => refusals().length > before, "a refusal");
  await writeTenant(mesh.personasDir, "acme", served, [{ ...LOUD, alpha: 0.3 }]);
  await until(async () => (await names()).join() === personaName("acme", "loud"), "the good file is in force");
  await until(async () => (await loaded())[0]?.proof?.effectiveAlphaHundredths === 30, "with its new alpha");

  await rm(folder, { recursive: true });
  await until(async () => (await names()).length === 0, "the personas are gone");
  const globex = await mesh.client({ tenant: "globex" });
  expect(await collect(globex.listLoadedPersonas())).toHaveLength(1);
});

function messageOf(error: unknown): string {
  return String((error as { message?: unknown } | undefined)?.message);
}
