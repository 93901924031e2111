import { create } from "@bufbuild/protobuf";
import { FinishedSchema, PersonaSwitchedSchema, StartedSchema, TokensSchema } from "@persona-mesh/protocol";
import { expect, it } from "vitest";
import type { GenerateEvent } from "../reply.ts";
import { HeatTrace } from "./heat-trace.ts";

const persona = (...layers: [layer: number, dose: number][]) => ({
  name: "p",
  doses: layers.map(([layer, dose]) => ({ layer, dose })),
});
const started = (worn?: ReturnType<typeof persona>): GenerateEvent => ({
  case: "started",
  value: create(StartedSchema, worn === undefined ? {} : { persona: worn }),
});
const tokens = (text: string, ...projections: number[][]): GenerateEvent => ({
  case: "tokens",
  value: create(TokensSchema, { text, tokens: projections.map((of, id) => ({ id, projections: of })) }),
});
const finished: GenerateEvent = { case: "finished", value: create(FinishedSchema) };

async function trace(events: readonly GenerateEvent[], layer?: number): Promise<HeatTrace> {
  const heat = new HeatTrace(layer);
  const passed = await Array.fromAsync(
    heat.observe(
      (async function* () {
        yield* events;
      })(),
    ),
  );
  expect(passed).toEqual(events);
  return heat;
}

const heats = ({ pieces }: HeatTrace) => pieces.map(({ text, projection }) => [text, projection]);

it("takes the projections at the layer of the largest dose, or at the one that is wanted", async () => {
  const events = [started(persona([2, 0.1], [3, 0.3])), tokens("a", [0.5, 0.25]), finished];
  const largest = await trace(events);
  expect([largest.layer, heats(largest)]).toEqual([3, [["a", 0.25]]]);
  const wanted = await trace(events, 2);
  expect([wanted.layer, heats(wanted)]).toEqual([2, [["a", 0.5]]]);
});

it("refuses a layer that the persona does not steer, and says which it does", async () => {
  const events = [started(persona([2, 0.1], [3, 0.3]))];
  await expect(trace(events, 5)).rejects.toThrow("does not steer layer 5; it steers 2, 3");
});

it("a piece of text has the mean of the tokens that brought it", async () => {
  const heat = await trace([
    started(persona([0, 1])),
    tokens("", [0.5]),
    tokens("é", [0.25]),
    tokens("!", [-0.5]),
    finished,
  ]);
  expect(heats(heat)).toEqual([
    ["é", 0.375],
    ["!", -0.5],
  ]);
  expect(heat.pieces.map((piece) => piece.tokens.length)).toEqual([2, 1]);
});

it("an unsteered reply has no heat, whatever layer is wanted", async () => {
  const heat = await trace([started(), tokens("a", []), finished], 3);
  expect([heat.layer, heats(heat)]).toEqual([undefined, [["a", undefined]]]);
});

it("a persona that takes over is measured at the same layer, or not at all", async () => {
  const switched = (worn?: ReturnType<typeof persona>): GenerateEvent => ({
    case: "personaSwitched",
    value: create(PersonaSwitchedSchema, worn === undefined ? {} : { persona: worn }),
  });
  const heat = await trace([
    started(persona([3, 0.3])),
    tokens("a", [0.25]),
    switched(persona([2, 0.9], [3, 0.1])),
    tokens("b", [0.75, 0.5]),
    switched(persona([4, 0.9])),
    tokens("c", [0.75]),
    switched(),
    tokens("d", []),
    finished,
  ]);
  expect(heat.layer).toBe(3);
  expect(heats(heat)).toEqual([
    ["a", 0.25],
    ["b", 0.5],
    ["c", undefined],
    ["d", undefined],
  ]);
});
