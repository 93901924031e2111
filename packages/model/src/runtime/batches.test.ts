import { GraphBuilder, liveHandles, Session, type Value } from "@persona-mesh/onnx";
import { expect, it } from "vitest";
import { BODY, type DecoderSpec } from "../graph/index.ts";
import { BodyBatch } from "./body-batch.ts";
import { HeadBatch } from "./head-batch.ts";

const SPEC = { layers: 2, hidden: 4 } as DecoderSpec;

/** A graph whose only input and output every batch has. */
async function bindableGraph(): Promise<Session> {
  const graph = new GraphBuilder("bindable");
  const tokens = graph.input(BODY.tokens, "int32", ["rows", 4]);
  const [hidden] = graph.ops("Identity", [graph.cast(tokens, "float32")], [{ global: BODY.hidden }]) as [Value];
  graph.expose(hidden, "float32", ["rows", 4]);
  return Session.load(graph.build());
}

/** A graph that passes its first input through and has another that no batch offers, or of a rank that none has. */
async function unbindable(type: "int32" | "float32", first: string, second: string, rank: number): Promise<Session> {
  const graph = new GraphBuilder("unbindable");
  const shape = ["rows", 4];
  const input = graph.input(first, type, shape);
  graph.input(second, "float32", ["rows", 4, 1].slice(0, rank));
  const [output] = graph.ops("Identity", [input], [{ global: "output" }]) as [Value];
  graph.expose(output, type, shape);
  return Session.load(graph.build());
}

it("a body batch that cannot be bound leaves nothing behind", async () => {
  using session = await unbindable("int32", BODY.tokens, "nobody_offers_this", 2);
  const before = liveHandles();
  const shape = { batch: 2, sequence: 4, selected: 1 };
  expect(() => new BodyBatch({ plain: session, renorm: session }, SPEC, shape, [], {})).toThrow("nobody_offers_this");
  expect(liveHandles()).toBe(before);
  using bindable = await bindableGraph();
  const between = liveHandles();
  expect(() => new BodyBatch({ plain: bindable, renorm: session }, SPEC, shape, [], {})).toThrow("nobody_offers_this");
  expect(liveHandles()).toBe(between);
});

it("a head batch that cannot be bound leaves nothing behind", async () => {
  using session = await unbindable("float32", "hidden", "three_axes", 3);
  const before = liveHandles();
  expect(() => new HeadBatch(session, SPEC, 2)).toThrow("three_axes");
  expect(liveHandles()).toBe(before);
});
