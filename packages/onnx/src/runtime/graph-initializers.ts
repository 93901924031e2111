import { readFileSync, statSync } from "node:fs";
import { fromBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "../gen/onnx/onnx_pb.ts";
import { elementCount, elementTypeInfo, elementTypeOf } from "./element-type.ts";
import { OnnxRuntimeError } from "./error.ts";
import { describe } from "./tensor.ts";
import type { WeightEntry } from "./weight-entry.ts";

/** A graph whose weights lie elsewhere has a few MB; above this, its weights are inside, and sharing them is a mistake. */
const MAX_GRAPH_BYTES = 256 << 20;

/**
 * The entries that a graph declares as initializers, in the shape that it declares, each checked: the runtime itself
 * takes a tensor of any type and shape in an initializer's place, and computes with it whatever comes out.
 *
 * Graphs may see the same elements in different shapes: a table that one gathers from, another multiplies with.
 *
 * @param source - path or bytes of the graph
 * @throws OnnxRuntimeError INVALID_WEIGHTS when an entry differs from the graph's initializer of the same name in type,
 * number of elements or place in the file; NO_SUCH_FILE; INVALID_PROTOBUF
 */
export function entriesOfGraph(source: string | Uint8Array, entries: ReadonlyMap<string, WeightEntry>): WeightEntry[] {
  return readInitializers(source).flatMap((declared) => {
    const entry = entries.get(declared.name);
    if (entry === undefined) return [];
    const shape = declared.dims.map(Number);
    const offset = declared.externalData.find(({ key }) => key === "offset")?.value;
    const agrees =
      declared.dataType === elementTypeInfo(entry.type).code &&
      elementCount(shape) === elementCount(entry.shape) &&
      (offset === undefined || Number(offset) === entry.offset);
    if (agrees) return { ...entry, shape };
    const type = elementTypeOf(declared.dataType) ?? `type ${declared.dataType}`;
    throw new OnnxRuntimeError(
      "INVALID_WEIGHTS",
      `the graph declares "${entry.name}" as ${describe({ type, shape })} at ${offset ?? "no offset"}, ` +
        `the weights have ${describe(entry)} at ${entry.offset}`,
    );
  });
}

function readInitializers(source: string | Uint8Array) {
  const bytes = typeof source === "string" ? readGraph(source) : source;
  try {
    return fromBinary(ModelProtoSchema, bytes, { readUnknownFields: false }).graph?.initializer ?? [];
  } catch (cause) {
    throw new OnnxRuntimeError("INVALID_PROTOBUF", `the graph cannot be read: ${(cause as Error).message}`, { cause });
  }
}

function readGraph(path: string): Uint8Array {
  try {
    const { size } = statSync(path);
    if (size <= MAX_GRAPH_BYTES) return readFileSync(path);
  } catch (cause) {
    throw new OnnxRuntimeError("NO_SUCH_FILE", `cannot read ${path}: ${(cause as Error).message}`, { cause });
  }
  throw new OnnxRuntimeError(
    "INVALID_ARGUMENT",
    `${path} is over ${MAX_GRAPH_BYTES >> 20} MiB: with shared weights, a graph's weights lie in their own file`,
  );
}
