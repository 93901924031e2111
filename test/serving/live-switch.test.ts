import { afterAll, beforeAll, expect, test } from "vitest";
import { personaName, type TestPersona } from "../support/personas.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { RunningStream, withinOneStream } from "../support/running-stream.ts";
import { openStage, type Stage } from "../support/stage.ts";

// Told apart by how many layers they steer: every token says by its projections which one acted on it.
const ONE: TestPersona = { name: "one", seed: 1, layers: [2] };
const TWO: TestPersona = { name: "two", seed: 2, layers: [2, 3] };

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ slots: 4 });
});

afterAll(() => stage.mesh.close());

const FOLLOW = { selector: { case: "active", value: { follow: true } } } as const;
const STAY = { selector: { case: "active", value: { follow: false } } } as const;

const follow = () => new RunningStream(stage.client, ask("hello", { persona: FOLLOW, maxTokens: 1_000_000 }));

test("a stream that follows takes on what becomes active, from one token to the next, and loses what is no more", () =>
  withinOneStream(async () => {
    await stage.cast([ONE, TWO], { active: "one" });
    const following = follow();
    await following.tokens(3);
    expect(following.started?.persona?.name).toBe(personaName("acme", "one"));

    const recast = stage.cast([ONE, TWO], { active: "two" });
    await following.switched();
    await following.tokens(3);
    await recast;
    const gone = stage.cast([ONE], { active: null });
    await following.switched(2);
    await following.tokens(3);
    await gone;
    await following.end();

    const [toTwo, toNone] = following.switches;
    expect(toTwo?.persona).toMatchObject({ name: personaName("acme", "two"), effectiveAlphaHundredths: 40 });
    expect(toNone?.persona).toBeUndefined();
    expect(toTwo?.switchMicros).toBeGreaterThan(0);
    // The tokens themselves say when each began to act: exactly where the switches say.
    const [first, second] = [toTwo?.afterTokens as number, toNone?.afterTokens as number];
    expect(following.steered).toEqual(following.steered.map((_, at) => (at < first ? 1 : at < second ? 2 : 0)));
  }));

test("a stream that does not follow keeps its persona to the end, and its reply is the one without any switch", () =>
  withinOneStream(async () => {
    await stage.cast([ONE, TWO], { active: "one" });
    const before = fingerprint(await stage.client.generateText(ask("hello", { persona: STAY, maxTokens: 300 })));
    const staying = stage.client.generateText(ask("hello", { persona: STAY, maxTokens: 300 }));
    const following = follow();
    await following.tokens(1);
    const recast = stage.cast([TWO], { active: "two" });
    await following.switched();
    await recast;
    await following.end();
    const reply = await staying;
    expect(reply.switches).toEqual([]);
    expect(fingerprint(reply)).toEqual(before);
    // Who comes now gets the new one.
    const { started } = await stage.client.generateText(ask("hello", { persona: STAY, maxTokens: 1 }));
    expect(started.persona?.name).toBe(personaName("acme", "two"));
  }));

test("a persona that changes under its name is switched like another one", () =>
  withinOneStream(async () => {
    await stage.cast([ONE], { active: "one" });
    const following = follow();
    await following.tokens(1);
    const recast = stage.cast([{ ...ONE, alpha: 0.2 }], { active: "one" });
    await following.switched();
    await recast;
    await following.end();
    expect(following.switches[0]?.persona).toMatchObject({
      name: personaName("acme", "one"),
      effectiveAlphaHundredths: 20,
    });
  }));
