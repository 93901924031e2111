import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type ElementType,
  GraphBuilder,
  type OutlineNode,
  outlineGraph,
  Session,
  type Value,
} from "@persona-mesh/onnx";
import { afterAll, expect, it } from "vitest";
import { buildGraphs, type GraphRole } from "./build-graphs.ts";
import type { DecoderSpec } from "./decoder-spec.ts";
import { precisionOf } from "./precision.ts";
import { STORED_BYTES, storedTensors } from "./stored-tensors.ts";
import { planWeights, WEIGHT } from "./weights-plan.ts";

/**
 * Graphs for accelerators cannot run here. What can be shown: their types hold together by the rules of each operator,
 * bfloat16 is where weights are multiplied and where attention happens and nowhere else, and the runtime finds nothing
 * to object to but that the CPU has no such kernels.
 */
const PLAIN: DecoderSpec = {
  architecture: "llama",
  layers: 2,
  hidden: 64,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  intermediate: 96,
  vocabulary: 101,
  contextTokens: 32,
  normEps: 1e-5,
  normPlusOne: false,
  sandwichNorms: false,
  embeddingScale: 1,
  tiedEmbeddings: true,
  logitSoftCap: null,
  activation: "silu",
  mlpBias: false,
  attention: { scale: 0.25, qkvBias: false, outBias: false, queryKeyNorm: false, softCap: null },
  ropes: [{ theta: 10_000, rotaryDim: 16, scaling: { kind: "none" } }],
  layerKinds: [
    { window: null, rope: 0 },
    { window: null, rope: 0 },
  ],
};

/** Every part that a decoder can have. */
const EVERYTHING: DecoderSpec = {
  ...PLAIN,
  normPlusOne: true,
  sandwichNorms: true,
  embeddingScale: 8,
  tiedEmbeddings: false,
  logitSoftCap: 30,
  activation: "gelu-tanh",
  mlpBias: true,
  attention: { scale: 0.25, qkvBias: true, outBias: true, queryKeyNorm: true, softCap: 50 },
  layerKinds: [
    { window: 8, rope: 0 },
    { window: null, rope: null },
  ],
};

const folder = mkdtempSync(join(tmpdir(), "persona-bfloat16-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The graphs of a spec, over a weights file of zeros. */
function graphsOf(spec: DecoderSpec): ReadonlyMap<GraphRole, Uint8Array> {
  const precision = precisionOf("bfloat16");
  let end = 0;
  const weights = planWeights(spec, undefined, precision)
    .flatMap(storedTensors)
    .map((tensor) => {
      const byteLength = STORED_BYTES[tensor.dtype] * tensor.shape.reduce((product, extent) => product * extent, 1);
      const offset = end;
      end = Math.ceil((end + byteLength) / 4096) * 4096;
      return { ...tensor, offset, byteLength };
    });
  writeFileSync(join(folder, "weights.bin"), "");
  truncateSync(join(folder, "weights.bin"), end);
  return buildGraphs(spec, weights, "weights.bin", precision);
}

const PRODUCTS = ["MatMul", "Gemm"];
/** Operators that give what their first input is, and want every input of that type. */
const ALIKE = ["Add", "Sub", "Mul", "Div", "Concat", "FusedMatMul", "SimplifiedLayerNormalization", ...PRODUCTS];
/** Operators that give what their first input is, with others that index or shape it. */
const FROM_FIRST = [
  "Gather",
  "GatherElements",
  "Reshape",
  "Split",
  "Slice",
  "Transpose",
  "Unsqueeze",
  "Squeeze",
  "Identity",
  "Softmax",
  "Tanh",
];
const REDUCTIONS = ["ReduceMax"];
const ACTIVATIONS = ["QuickGelu", "FastGelu", "Gelu"];

/** Types of a node's outputs, by the rules of its operator. */
function typesOf(node: OutlineNode, inputs: readonly ElementType[]): ElementType[] {
  const [first] = inputs as [ElementType];
  const { operator, outputs } = node;
  if (operator === "Cast") return [node.castTo as ElementType];
  if (operator === "TopK") return [first, "int64"];
  if (operator === "Where") return [inputs[1] as ElementType];
  if (operator === "GroupQueryAttention") {
    const floats = inputs.filter((type) => type !== "int32");
    expect(new Set(floats), node.name).toEqual(new Set([first]));
    return outputs.map(() => first);
  }
  if (ALIKE.includes(operator)) expect(new Set(inputs), node.name).toEqual(new Set([first]));
  else expect([...FROM_FIRST, ...REDUCTIONS, ...ACTIVATIONS], node.name).toContain(operator);
  return outputs.map(() => first);
}

it.each([
  ["plain", PLAIN],
  ["with every part", EVERYTHING],
])("a %s decoder multiplies weights and attends in bfloat16, and does all else in float32", (_, spec) => {
  for (const [role, bytes] of graphsOf(spec)) {
    const outline = outlineGraph(bytes);
    const types = new Map([...outline.inputs, ...outline.initializers].map(({ name, type }) => [name, type]));
    const inBfloat16: string[] = [];
    for (const node of outline.nodes) {
      const inputs = node.inputs.filter((name) => name !== "").map((name) => types.get(name) as ElementType);
      expect(inputs, `${role}: ${node.name} reads what was made before`).not.toContain(undefined);
      const outputs = typesOf(node, inputs);
      node.outputs.forEach((name, i) => {
        types.set(name, outputs[i] as ElementType);
      });
      if ([...inputs, ...outputs].includes("bfloat16")) inBfloat16.push(node.operator);
    }
    for (const { name, type } of outline.outputs) expect(types.get(name), `${role}: ${name}`).toBe(type);
    const gathers = role.startsWith("body") ? ["Gather", "GroupQueryAttention", "MatMul"] : ["Gemm"];
    expect(new Set(inBfloat16), role).toEqual(new Set(["Cast", ...gathers]));

    const isMatrix = (name: string) =>
      name === WEIGHT.embedding || name === WEIGHT.head || /\.(qkv|attention_out|gate_up|down)$/.test(name);
    for (const { name, type } of outline.initializers) {
      if (type === "int64") continue;
      expect(type, `${role}: ${name}`).toBe(isMatrix(name) ? "bfloat16" : "float32");
    }
    for (const { name, type } of [...outline.inputs, ...outline.outputs]) {
      if (type.startsWith("int") || type === "bool") continue;
      expect(type, `${role}: ${name}`).toBe(/^(past|present)_(key|value)\./.test(name) ? "bfloat16" : "float32");
    }
    // Products of the steering table with the residual stream are no products of weights.
    const products = outline.nodes.filter(({ operator }) => PRODUCTS.includes(operator));
    expect(products.length, role).toBeGreaterThan(0);
    for (const { inputs, name } of products) expect(types.get(inputs[1] as string), name).toBe("bfloat16");
  }
});

it.each([
  ["plain", PLAIN],
  ["with every part", EVERYTHING],
])("the runtime objects to nothing in a %s decoder but that the CPU has no kernels", async (_, spec) => {
  for (const [role, bytes] of graphsOf(spec)) {
    const path = join(folder, `${role}.onnx`);
    writeFileSync(path, bytes);
    for (const optimization of ["none", "all"] as const) {
      await expect(Session.load(path, { optimization }), role).rejects.toMatchObject({
        code: "NOT_IMPLEMENTED",
        message: expect.stringMatching(/Could not find an implementation for (MatMul|Gemm|GroupQueryAttention)\(/),
      });
    }
  }
});

it("would object to types that do not fit, before it looks for kernels", async () => {
  const graph = new GraphBuilder("mixed");
  const x = graph.input("x", "float32", [4, 4]);
  const product = graph.op("MatMul", [graph.cast(x, "bfloat16"), graph.cast(x, "bfloat16")]);
  const [mixed] = graph.ops("Add", [product, x], [{ global: "y" }]) as [Value];
  graph.expose(mixed, "float32", [4, 4]);
  await expect(Session.load(graph.build())).rejects.toThrow(/^(?!NOT_IMPLEMENTED).*bound to different types/s);
});
