import { expect, test } from "vitest";
import { SteeringTable } from "../table/index.ts";
import { rowAlong } from "../testing/personas.ts";
import { gainAt, type RowSteering, UNSTEERED, writeSteering } from "./row-steering.ts";

const LAYERS = 3;

function leased(changes: Partial<RowSteering> = {}): RowSteering {
  const table = new SteeringTable({ rows: 4, hidden: 2, layers: LAYERS });
  const got = table.acquire(
    "one",
    new Map([
      [0, rowAlong(2, 1)],
      [2, rowAlong(2, 1)],
    ]),
  );
  if (got.kind !== "leased") throw new Error("the table is full");
  return { lease: got.lease, gain: 0.5, renorm: false, positions: "ALL", ...changes };
}

/** Inputs of two rows, full of what an earlier step left. */
const stale = () => ({
  rows: new Int32Array(2 * LAYERS).fill(9),
  gain: new Float32Array(2).fill(9),
  renorm: new Uint8Array(2).fill(9),
});

test.each([
  ["ALL", 0.5, 0.5],
  ["PROMPT", 0.5, 0],
  ["GENERATED", 0, 0.5],
] as const)("%s acts with the gain on the prompt %d, on the reply %d", (positions, prompt, generated) => {
  expect(gainAt(leased({ positions }), "prompt")).toBe(prompt);
  expect(gainAt(leased({ positions }), "generated")).toBe(generated);
});

test("one row is written whole, and the other is left alone", () => {
  const inputs = stale();
  const steering = leased({ renorm: true });
  writeSteering(inputs, 1, LAYERS, steering, "prompt");
  expect([...inputs.rows]).toEqual([9, 9, 9, ...(steering.lease?.rows ?? [])]);
  expect(steering.lease?.rows[1]).toBe(0);
  expect([...inputs.gain]).toEqual([9, 0.5]);
  expect([...inputs.renorm]).toEqual([9, 1]);
});

test("an unsteered row reads row 0 at every layer, with nothing to add and nothing to divide", () => {
  const inputs = stale();
  writeSteering(inputs, 0, LAYERS, UNSTEERED, "generated");
  expect([...inputs.rows]).toEqual([0, 0, 0, 9, 9, 9]);
  expect([inputs.gain[0], inputs.renorm[0]]).toEqual([0, 0]);
});

test("where a persona does not act its rows are still measured along, and its norms are not divided", () => {
  for (const [steering, phase] of [
    [leased({ renorm: true, positions: "PROMPT" }), "generated"],
    [leased({ renorm: true, gain: 0 }), "prompt"],
  ] as const) {
    const inputs = stale();
    writeSteering(inputs, 0, LAYERS, steering, phase);
    expect([...inputs.rows.subarray(0, LAYERS)]).toEqual([...(steering.lease?.rows ?? [])]);
    expect([inputs.gain[0], inputs.renorm[0]]).toEqual([0, 0]);
  }
});
