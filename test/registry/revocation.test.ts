import type { InferenceClient } from "@persona-mesh/client";
import { RevocationPolicy, WorkerState } from "@persona-mesh/protocol/registry";
import { afterAll, beforeAll, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { type GovernedMesh, openGovernedMesh, WORKER } from "../support/governed-mesh.ts";
import type { GovernedTenant } from "../support/governed-tenant.ts";
import { ask, fingerprint, textPrompt } from "../support/requests.ts";
import { RunningStream, withinOneStream } from "../support/running-stream.ts";

let mesh: GovernedMesh;
/** Whose streams go on without what is revoked. */
let acme: GovernedTenant;
/** Whose streams end with it. */
let globex: GovernedTenant;
let ofAcme: InferenceClient;
let ofGlobex: InferenceClient;

beforeAll(async () => {
  mesh = await openGovernedMesh({ worker: { slots: 8 } });
  acme = await mesh.tenant("acme", { revocation: RevocationPolicy.REMOVE });
  globex = await mesh.tenant("globex", { revocation: RevocationPolicy.END });
  ofAcme = await mesh.client({ tenant: "acme" });
  ofGlobex = await mesh.client({ tenant: "globex" });
  await acme.produce("spare", 90);
});

afterAll(() => mesh.close());

const FOLLOW = { selector: { case: "active", value: { follow: true } } } as const;
const ENDLESS = { maxTokens: 1_000_000 } as const;

const reasonOf = async (call: Promise<unknown>) => (await failureOf(call)).reason;

test("under REMOVE running streams go on without the persona, and say so; new calls are refused", () =>
  withinOneStream(async (attempt) => {
    const id = `rude-${attempt}`;
    const as = acme.persona(id);
    const version = await acme.produce(id, 10 + attempt);
    await acme.followed(await acme.activate(id));
    const named = new RunningStream(ofAcme, ask("hello", { as, ...ENDLESS }));
    const following = new RunningStream(ofAcme, ask("hello", { persona: FOLLOW, ...ENDLESS }));
    await Promise.all([named.tokens(3), following.tokens(3)]);

    const revoking = acme.revoke(version);
    await Promise.all([named.switched(), following.switched()]);
    await Promise.all([named.tokens(3), following.tokens(3)]);
    await acme.followed(await revoking);
    for (const { started, steered, switches } of [named, following]) {
      expect(started?.persona).toMatchObject({ name: as, versionDigests: [version.digest] });
      expect(switches.map(({ persona }) => persona)).toEqual([undefined]);
      // The tokens themselves say when it acted last: before the switch, and never again.
      const last = switches[0]?.afterTokens as number;
      expect(last).toBeGreaterThanOrEqual(3);
      expect(steered).toEqual(steered.map((_, at) => (at < last ? 2 : 0)));
    }

    const { persona: _, ...ofActive } = ask("hello", { maxTokens: 1 });
    for (const request of [ofActive, ask("hello", { as, maxTokens: 1 })]) {
      expect(await failureOf(ofAcme.generateText(request))).toMatchObject({
        reason: "VERSION_REVOKED",
        metadata: { digest: version.digest },
      });
    }
    const scored = ofAcme.score({
      prompt: textPrompt("hello"),
      persona: { selector: { case: "name", value: as } },
      continuations: [{ input: { case: "text", value: " there" } }],
    });
    expect(await reasonOf(scored)).toBe("VERSION_REVOKED");
    const loaded = await collect(ofAcme.listLoadedPersonas());
    expect(loaded.map(({ proof }) => proof?.name)).not.toContain(as);

    // Who follows takes on what becomes active next.
    const activated = acme.activate("spare");
    await following.switched(2);
    await following.tokens(3);
    await activated;
    expect(following.switches[1]?.persona?.name).toBe(acme.persona("spare"));
    expect(following.steered.at(-1)).toBe(2);
    await Promise.all([named.end(), following.end()]);
  }));

test("a stream that goes on without its persona comes to a good end", () =>
  withinOneStream(async (attempt) => {
    const version = await acme.produce(`harsh-${attempt}`, 20 + attempt);
    await acme.followed();
    const running = new RunningStream(ofAcme, ask("hello", { as: acme.persona(`harsh-${attempt}`), maxTokens: 500 }));
    await running.tokens(3);
    const revoking = acme.revoke(version);
    await running.switched();
    await running.until(() => running.finished !== undefined);
    await revoking;
    expect(running.finished).toMatchObject({ completionTokens: running.steered.length, effectiveAlphaHundredths: 0 });
  }));

test("under END running streams end with the reason, and those without the version go on", () =>
  withinOneStream(async (attempt) => {
    const version = await globex.produce(`rude-${attempt}`, 30 + attempt);
    await globex.produce(`kind-${attempt}`, 40 + attempt);
    await globex.followed(await globex.activate(`rude-${attempt}`));
    const stream = (persona: object) => new RunningStream(ofGlobex, ask("hello", { ...persona, ...ENDLESS }));
    const named = stream({ as: globex.persona(`rude-${attempt}`) });
    const following = stream({ persona: FOLLOW });
    const kind = stream({ as: globex.persona(`kind-${attempt}`) });
    const plain = stream({});
    await Promise.all([named, following, kind, plain].map((each) => each.tokens(3)));

    const revoking = globex.revoke(version);
    for (const each of [named, following]) {
      expect(await reasonOf(each.until(() => false))).toBe("VERSION_REVOKED");
      expect(each.switches).toEqual([]);
      expect(new Set(each.steered)).toEqual(new Set([2]));
    }
    await globex.followed(await revoking);
    await Promise.all([kind.tokens(3), plain.tokens(3)]);
    expect(kind.switches).toEqual([]);
    expect(new Set(kind.steered)).toEqual(new Set([2]));
    await Promise.all([kind.end(), plain.end()]);
  }));

test("the distribution says which worker has the revocation, and that nothing is wrong with it", async () => {
  const version = await acme.produce("sly", 50);
  await acme.followed();
  const revision = await acme.revoke(version);
  // One that nobody has yet.
  expect((await acme.distribution(revision + 1n)).workers).toMatchObject([{ worker: WORKER, reached: false }]);
  await acme.followed(revision);
  const { workers } = await acme.distribution(revision);
  expect(workers).toMatchObject([
    {
      worker: WORKER,
      modelChecksum: mesh.served.model.modelChecksum,
      state: WorkerState.READY,
      reached: true,
      connected: true,
      problems: [],
    },
  ]);
  expect(workers[0]?.appliedRevision).toBeGreaterThanOrEqual(revision);
});

test("the same bytes of another tenant are not revoked with them", async () => {
  const ours = await acme.produce("twin", 60);
  const theirs = await globex.produce("twin", 60);
  expect(ours.digest).toBe(theirs.digest);
  await globex.followed();
  const wear = () => ofGlobex.generateText(ask("hello", { as: globex.persona("twin") }));
  const before = fingerprint(await wear());
  await acme.followed(await acme.revoke(ours));
  expect(await reasonOf(ofAcme.generateText(ask("hello", { as: acme.persona("twin") })))).toBe("VERSION_REVOKED");
  expect(fingerprint(await wear())).toEqual(before);
});
