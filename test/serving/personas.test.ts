import type { InferenceClient } from "@persona-mesh/client";
import { Mode, Positions } from "@persona-mesh/protocol";
import { versionDigest } from "@persona-mesh/steering";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect } from "../support/failure.ts";
import { personaName, type TestPersona, vectorBytes, writeTenant } from "../support/personas.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { askServedModel, type ServedModel } from "../support/served-model.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";

const LOUD: TestPersona = { name: "loud", seed: 1, layers: [2, 3], alpha: 0.4 };
const QUIET: TestPersona = {
  name: "quiet",
  seed: 2,
  layers: [1, 3, 5],
  alpha: -0.25,
  mode: "ADD_RENORM",
  positions: "GENERATED",
};

let mesh: TestWorker;
let served: ServedModel;
let acme: InferenceClient;
let globex: InferenceClient;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 4 });
  served = await askServedModel(await mesh.client({ roles: ["service"] }));
  await writeTenant(mesh.personasDir, "acme", served, [LOUD, QUIET], { active: "loud" });
  // The same short name, another vector.
  await writeTenant(mesh.personasDir, "globex", served, [{ ...LOUD, seed: 3 }]);
  acme = await mesh.client({ tenant: "acme" });
  globex = await mesh.client({ tenant: "globex" });
  await until(async () => (await collect(acme.listLoadedPersonas())).length === 2, "acme is loaded");
  await until(async () => (await collect(globex.listLoadedPersonas())).length === 1, "globex is loaded");
});

afterAll(() => mesh.close());

const digestOf = (persona: TestPersona) => versionDigest(vectorBytes(served, persona));

test("two tenants at once: each wears its own persona, and Started proves which", async () => {
  const request = { maxTokens: 30 } as const;
  const [loud, other, plain] = await Promise.all([
    acme.generateText(ask("hello", { ...request, as: personaName("acme", "loud") })),
    globex.generateText(ask("hello", { ...request, as: personaName("globex", "loud") })),
    globex.generateText(ask("hello", request)),
  ]);
  expect(loud.started.persona).toMatchObject({
    name: "tenants/acme/personas/loud",
    versionDigests: [digestOf(LOUD)],
    mode: Mode.ADD,
    positions: Positions.ALL,
    outcome: "ACCEPTED",
    effectiveAlphaHundredths: 40,
  });
  expect(other.started.persona).toMatchObject({
    name: "tenants/globex/personas/loud",
    versionDigests: [digestOf({ ...LOUD, seed: 3 })],
  });
  expect(other.started.persona?.revision).not.toBe(loud.started.persona?.revision);
  expect(plain.started.persona).toBeUndefined();
  for (const { started } of [loud, other, plain]) {
    expect(started).toMatchObject({
      modelChecksum: served.model.modelChecksum,
      graphDigest: served.model.graphDigest,
      seed: 7n,
    });
  }
  const bits = [loud, other, plain].map((reply) => fingerprint(reply).logProbs.join());
  expect(new Set(bits).size).toBe(3);
});

test("the proof has the doses that act, scaled by the gain; the end has the effective alpha", async () => {
  for (const [gain, alpha] of [
    [1, 0.25],
    [0.5, 0.13],
    [0, 0],
  ] as const) {
    const { started, finished } = await acme.generateText(ask("hello", { as: personaName("acme", "quiet"), gain }));
    const { persona } = started;
    expect(persona).toMatchObject({ mode: Mode.ADD_RENORM, positions: Positions.GENERATED });
    expect(persona?.doses.map(({ layer }) => layer)).toEqual(QUIET.layers);
    for (const { dose } of persona?.doses ?? []) expect(dose).toBeCloseTo(0.25 * gain, 5);
    // Rounded up: what is said is never less than what acts.
    expect(persona?.effectiveAlphaHundredths).toBe(Math.round(alpha * 100));
    expect(finished.effectiveAlphaHundredths).toBe(Math.round(alpha * 100));
  }
});

test("every token of a steered stream has a projection per dosed layer; an unsteered one has none", async () => {
  const quiet = await acme.generateText(ask("hello", { as: personaName("acme", "quiet") }));
  for (const { projections } of quiet.tokens) {
    expect(projections).toHaveLength(QUIET.layers.length);
    expect(projections.every(Number.isFinite)).toBe(true);
    expect(projections.some((projection) => projection !== 0)).toBe(true);
  }
  const plain = await acme.generateText(ask("hello"));
  expect(plain.tokens.flatMap(({ projections }) => projections)).toEqual([]);
});

test("who names no persona gets the tenant's active one, or none", async () => {
  const { persona: _, ...request } = ask("hello");
  expect((await acme.generateText(request)).started.persona?.name).toBe("tenants/acme/personas/loud");
  expect((await globex.generateText(request)).started.persona).toBeUndefined();
  const active = { selector: { case: "active", value: {} } } as const;
  const named = await acme.generateText(ask("hello", { as: personaName("acme", "loud") }));
  const asked = await acme.generateText(ask("hello", { persona: active }));
  expect(fingerprint(asked)).toEqual(fingerprint(named));
  expect((await globex.generateText(ask("hello", { persona: active }))).started.persona).toBeUndefined();
});

test("the list has every persona with its proof, which one is active, and which are resident; also page by page", async () => {
  const listed = await collect(acme.listLoadedPersonas());
  expect(listed.map(({ proof, active }) => [proof?.name, active])).toEqual([
    ["tenants/acme/personas/loud", true],
    ["tenants/acme/personas/quiet", false],
  ]);
  const { started } = await acme.generateText(ask("hello", { as: personaName("acme", "quiet") }));
  const [, quiet] = await collect(acme.listLoadedPersonas());
  expect(quiet?.proof).toEqual(started.persona);
  expect(quiet?.resident).toBe(true);
});

test("personas take turns in a table that cannot hold all of them at once", async () => {
  // Two rows for loud, three for quiet: of a table of four usable rows only one of them fits.
  const small = await openTestWorker({ slots: 4, tableRows: 5 });
  try {
    const client = await small.client();
    await writeTenant(small.personasDir, "acme", served, [
      LOUD,
      QUIET,
      { name: "vast", seed: 4, layers: [0, 1, 2, 3, 4], alpha: 0.1 },
    ]);
    await until(async () => (await collect(client.listLoadedPersonas())).length === 3, "all are loaded");
    const names = ["loud", "quiet", "loud", "quiet", "quiet", "loud"];
    const replies = await Promise.all(
      names.map((name) => client.generateText(ask("hello", { as: personaName("acme", name) }))),
    );
    for (const [index, reply] of replies.entries()) {
      const reference = await acme.generateText(ask("hello", { as: personaName("acme", names[index] as string) }));
      expect(fingerprint(reply)).toEqual(fingerprint(reference));
    }
    expect(small.running.worker.table.figures().evictions).toBeGreaterThan(0);
    // One that fits no table is refused at once, and holds nobody up.
    await expect(client.generateText(ask("hello", { as: personaName("acme", "vast") }))).rejects.toMatchObject({
      reason: "TABLE_TOO_SMALL",
      metadata: { needed: "5", capacity: "4" },
    });
    await client.generateText(ask("hello", { as: personaName("acme", "loud") }));
    await until(() => small.running.worker.engine.figures().running === 0, "nothing runs");
    expect(small.running.worker.table.figures()).toMatchObject({ rowsHeld: 0, heldPersonas: 0 });
  } finally {
    await small.close();
  }
});
