import { ServiceError } from "@persona-mesh/service";
import { describe, expect, test } from "vitest";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import type { Standing } from "../personas/persona-catalog.ts";
import { SteeringTable } from "../table/index.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import { UNSTEERED } from "./row-steering.ts";
import { gainWithin, WornPersona } from "./worn-persona.ts";

const ONE = personaOf("one", new Map([[0, rowAlong(2, 1)]]));
const TWO = personaOf(
  "two",
  new Map([
    [0, rowAlong(2, 2)],
    [1, rowAlong(2, 2)],
  ]),
  { mode: "ADD_RENORM", positions: "GENERATED" },
);

/** A table with so many rows for personas. */
const tableOf = (rows: number) => new SteeringTable({ rows: rows + 1, hidden: 2, layers: 3 });

/** What a call wears, from a place that the test can change. */
function worn(table: SteeringTable, first: LoadedPersona | undefined, { follow = true, gain = 1 } = {}) {
  const source = { persona: first };
  return { source, worn: new WornPersona(table, { current: () => source.persona, follow, gain }) };
}

test("rows are held from admission to release, and no longer", () => {
  const table = tableOf(4);
  const { worn: one } = worn(table, ONE, { gain: 0.5 });
  expect(table.figures().rowsHeld).toBe(0);
  expect(one.steering).toBe(UNSTEERED);
  expect(one.admit()).toEqual({ kind: "admit" });
  expect(table.figures().rowsHeld).toBe(1);
  expect(one.steering).toMatchObject({ gain: 0.5, renorm: false, positions: "ALL" });
  one.release();
  one.release();
  expect(table.figures().rowsHeld).toBe(0);
  expect(one.steering).toBe(UNSTEERED);
});

test("without a persona there is nothing to hold", () => {
  const table = tableOf(1);
  const { worn: none } = worn(table, undefined);
  expect(none.admit()).toEqual({ kind: "admit" });
  expect(none.steering).toBe(UNSTEERED);
  expect(none.refresh()).toBeUndefined();
});

test("what became current while the call waited is what it starts with", () => {
  const { source, worn: late } = worn(tableOf(4), ONE);
  source.persona = TWO;
  late.admit();
  expect(late.persona).toBe(TWO);
  expect(late.refresh()).toBeUndefined();
});

test("a call that gave its slot up goes on with what it wore, at the gain that it had", () => {
  const table = tableOf(1);
  const { source, worn: paused } = worn(table, ONE, { follow: false });
  paused.admit();
  paused.lower(20);
  paused.release();
  source.persona = TWO;
  const { worn: other } = worn(table, personaOf("other", new Map([[0, rowAlong(2, 5)]])));
  other.admit();
  expect(paused.readmit()).toEqual({ kind: "wait" });
  other.release();
  expect(paused.readmit()).toEqual({ kind: "admit" });
  expect(paused.persona).toBe(ONE);
  expect(paused.steering.gain).toBeCloseTo(0.4);
  expect(paused.refresh()).toBeUndefined();
  expect(table.figures().rowsHeld).toBe(1);
});

test("a follower takes on the next one and gives the last one's rows back; others never change", () => {
  const table = tableOf(4);
  const { source, worn: follower } = worn(table, ONE);
  const { source: fixedSource, worn: fixed } = worn(table, ONE, { follow: false });
  follower.admit();
  fixed.admit();
  source.persona = TWO;
  fixedSource.persona = TWO;
  expect(fixed.refresh()).toBeUndefined();
  expect(fixed.persona).toBe(ONE);
  fixed.release();
  const switched = follower.refresh();
  expect(switched).toMatchObject({ persona: TWO });
  expect(switched?.micros).toBeGreaterThan(0);
  expect(follower.steering).toMatchObject({ renorm: true, positions: "GENERATED" });
  expect(table.figures()).toMatchObject({ rowsHeld: 2, heldPersonas: 1 });
  expect(follower.refresh()).toBeUndefined();
  source.persona = undefined;
  expect(follower.refresh()).toMatchObject({ persona: undefined });
  expect(follower.steering).toBe(UNSTEERED);
  expect(table.figures().rowsHeld).toBe(0);
});

test("the same revision under another object is no switch", () => {
  const { source, worn: follower } = worn(tableOf(4), ONE);
  follower.admit();
  source.persona = { ...ONE };
  expect(follower.refresh()).toBeUndefined();
});

test("a full table makes admission wait, and a switch keep the old persona until there is room", () => {
  const table = tableOf(3);
  const { source, worn: follower } = worn(table, ONE);
  follower.admit();
  const { worn: holder } = worn(table, personaOf("holder", new Map([[0, rowAlong(2, 5)]])));
  expect(holder.admit()).toEqual({ kind: "admit" });
  const { worn: waiting } = worn(table, TWO);
  expect(waiting.admit()).toEqual({ kind: "wait" });
  source.persona = TWO;
  expect(follower.refresh()).toBeUndefined();
  expect(follower.persona).toBe(ONE);
  expect(follower.steering.lease?.revision).toBe("one");
  holder.release();
  expect(follower.refresh()).toMatchObject({ persona: TWO });
  expect(waiting.admit()).toEqual({ kind: "admit" });
});

test("a persona that the whole table cannot hold is refused with the numbers", () => {
  const { worn: large } = worn(tableOf(1), TWO);
  expect(() => large.admit()).toThrow(
    expect.objectContaining({ reason: "TABLE_TOO_SMALL", metadata: { needed: "2", capacity: "1" } }),
  );
});

describe("governed from outside", () => {
  const error = new ServiceError("VERSION_REVOKED", "revoked");
  const served: Standing = { kind: "served", capHundredths: 80 };
  const removed: Standing = { kind: "withdrawn", policy: "REMOVE", error };

  /** What a follower wears where the test decides what is active and what is withdrawn. */
  function governed(table: SteeringTable, follow: boolean) {
    const source = { active: ONE as LoadedPersona | undefined, standings: new Map<LoadedPersona, Standing>() };
    const next = (wearing: LoadedPersona | undefined) => {
      const { active } = source;
      return active !== undefined && source.standings.get(active)?.kind === "withdrawn" ? wearing : active;
    };
    const standing = (persona: LoadedPersona) => source.standings.get(persona) ?? served;
    const worn = new WornPersona(table, { current: () => source.active, follow, next, gain: 1, standing });
    return { source, worn };
  }

  test("a persona withdrawn while the call waited refuses it", () => {
    const { source, worn: late } = governed(tableOf(4), false);
    source.standings.set(ONE, removed);
    expect(late.withdrawal()).toBe(error);
    expect(late.admit()).toEqual({ kind: "refuse", error });
  });

  test("one that is pinned is lost for good, also when it stands again", () => {
    const table = tableOf(4);
    const { source, worn: pinned } = governed(table, false);
    pinned.admit();
    source.standings.set(ONE, removed);
    expect(pinned.refresh()).toMatchObject({ persona: undefined, gain: 1 });
    expect(pinned.steering).toBe(UNSTEERED);
    expect(table.figures().rowsHeld).toBe(0);
    source.standings.clear();
    expect(pinned.refresh()).toBeUndefined();
    expect(pinned.withdrawal()).toBeUndefined();
  });

  test("a follower loses it and takes on what becomes active afterwards", () => {
    const { source, worn: follower } = governed(tableOf(4), true);
    follower.admit();
    source.standings.set(ONE, removed);
    expect(follower.refresh()).toMatchObject({ persona: undefined });
    expect(follower.refresh()).toBeUndefined();
    source.active = TWO;
    expect(follower.refresh()).toMatchObject({ persona: TWO });
  });

  test("an active persona that cannot be worn leaves a follower what it wears", () => {
    const { source, worn: follower } = governed(tableOf(4), true);
    follower.admit();
    source.active = TWO;
    source.standings.set(TWO, removed);
    expect(follower.refresh()).toBeUndefined();
    expect(follower.persona).toBe(ONE);
  });

  test("a full table never keeps on what is withdrawn", () => {
    const table = tableOf(2);
    const { source, worn: follower } = governed(table, true);
    follower.admit();
    const { worn: holder } = worn(table, personaOf("holder", new Map([[0, rowAlong(2, 5)]])));
    holder.admit();
    source.active = TWO;
    source.standings.set(ONE, removed);
    expect(follower.refresh()).toMatchObject({ persona: undefined });
    expect(follower.steering).toBe(UNSTEERED);
    holder.release();
    expect(follower.refresh()).toMatchObject({ persona: TWO });
  });

  test.each(["REMOVE", "END"] as const)(
    "withdrawn when its call goes on, it is lost also where it stands again before the next step: %s",
    (policy) => {
      const table = tableOf(4);
      const { source, worn: pinned } = governed(table, false);
      const { source: followed, worn: follower } = governed(table, true);
      for (const each of [pinned, follower]) {
        each.admit();
        each.release();
      }
      source.standings.set(ONE, { kind: "withdrawn", policy, error });
      followed.standings.set(ONE, { kind: "withdrawn", policy, error });
      for (const each of [pinned, follower]) expect(each.readmit()).toEqual({ kind: "admit" });
      source.standings.clear();
      followed.standings.clear();
      if (policy === "END") {
        for (const each of [pinned, follower]) expect(() => each.refresh()).toThrow(error);
        return;
      }
      expect(pinned.refresh()).toMatchObject({ persona: undefined });
      expect(pinned.refresh()).toBeUndefined();
      // Active, it is taken on again, and acts.
      expect(follower.refresh()).toMatchObject({ persona: ONE });
      expect(follower.steering.lease?.revision).toBe("one");
    },
  );

  test.each(["REMOVE", "END"] as const)(
    "withdrawn while its call had given its slot up, it never acts: %s",
    (policy) => {
      const table = tableOf(4);
      const { source, worn: pinned } = governed(table, false);
      pinned.admit();
      pinned.release();
      source.standings.set(ONE, { kind: "withdrawn", policy, error });
      expect(pinned.readmit()).toEqual({ kind: "admit" });
      expect(pinned.steering).toBe(UNSTEERED);
      if (policy === "END") expect(() => pinned.refresh()).toThrow(error);
      else expect(pinned.refresh()).toMatchObject({ persona: undefined });
      expect(pinned.steering).toBe(UNSTEERED);
      expect(table.figures().rowsHeld).toBe(0);
    },
  );

  test("streams that end with it end", () => {
    const { source, worn: pinned } = governed(tableOf(4), false);
    pinned.admit();
    source.standings.set(ONE, { kind: "withdrawn", policy: "END", error });
    expect(() => pinned.refresh()).toThrow(error);
    expect(pinned.steering).toBe(UNSTEERED);
  });

  test.each([
    // Largest alpha 0.5 in all of them.
    [80, 1, 1],
    [50, 1, 1],
    [49, 1, 0.8],
    [30, 1, 0.6],
    [0, 1, 0],
    // The call asked for less already: 0.25 is within 0.3, and goes down to 0.15 under 0.2.
    [30, 0.5, 0.5],
    [20, 0.5, 0.3],
  ])("under a cap of %d hundredths the gain %d acts as %d", (capHundredths, gain, acting) => {
    expect(gainWithin(ONE, gain, { kind: "served", capHundredths })).toBeCloseTo(acting, 12);
  });

  test("a cap lowered while a stream runs acts at the next step, on the rows that it has", () => {
    const { source, worn: pinned } = governed(tableOf(4), false);
    pinned.admit();
    const { lease } = pinned.steering;
    source.standings.set(ONE, { kind: "served", capHundredths: 30 });
    expect(pinned.refresh()).toMatchObject({ persona: ONE, gain: 0.6 });
    expect(pinned.steering).toMatchObject({ gain: 0.6 });
    expect([...(pinned.steering.lease?.rows ?? [])]).toEqual([...(lease?.rows ?? [])]);
    expect(pinned.refresh()).toBeUndefined();
  });
});

describe("lowered by the guard", () => {
  test("a persona acts so from the next step on, and the change is no switch", () => {
    const { worn: one } = worn(tableOf(4), ONE, { gain: 0.8 });
    one.admit();
    expect(one.alphaHundredths).toBe(40);
    const { lease } = one.steering;
    one.lower(30);
    expect(one.steering).toMatchObject({ gain: 0.6, lease });
    expect([one.gain, one.alphaHundredths]).toEqual([0.6, 30]);
    expect(one.refresh()).toBeUndefined();
    one.lower(0);
    expect([one.steering.gain, one.alphaHundredths]).toEqual([0, 0]);
  });

  test("it stays lowered, and another persona starts at its own alpha, as does the first one after it", () => {
    const { source, worn: follower } = worn(tableOf(4), ONE);
    follower.admit();
    follower.lower(10);
    source.persona = TWO;
    expect(follower.refresh()).toMatchObject({ persona: TWO, gain: 1 });
    source.persona = ONE;
    expect(follower.refresh()).toMatchObject({ persona: ONE, gain: 1 });
  });

  test("another revision of the same rows stays lowered", () => {
    const { source, worn: follower } = worn(tableOf(4), ONE);
    follower.admit();
    follower.lower(10);
    source.persona = { ...ONE, revision: "again" };
    expect(follower.refresh()).toMatchObject({ gain: 0.2 });
  });

  test("a policy's cap acts where it is lower still, and the guard's where that is", () => {
    const table = tableOf(4);
    let capHundredths = 50;
    const standing = (): Standing => ({ kind: "served", capHundredths });
    const one = new WornPersona(table, { current: () => ONE, follow: false, gain: 1, standing });
    one.admit();
    one.lower(30);
    capHundredths = 20;
    expect(one.refresh()).toMatchObject({ gain: 0.4 });
    capHundredths = 50;
    expect(one.refresh()).toMatchObject({ gain: 0.6 });
  });

  test("nobody's alpha is 0 and stays so", () => {
    const { worn: none } = worn(tableOf(1), undefined);
    none.admit();
    none.lower(0);
    expect([none.alphaHundredths, none.steering]).toEqual([0, UNSTEERED]);
    expect(none.refresh()).toBeUndefined();
  });
});
