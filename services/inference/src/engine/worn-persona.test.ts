import { expect, test } from "vitest";
import type { LoadedPersona } from "../personas/loaded-persona.ts";
import { SteeringTable } from "../table/index.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import { UNSTEERED } from "./row-steering.ts";
import { WornPersona } from "./worn-persona.ts";

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
