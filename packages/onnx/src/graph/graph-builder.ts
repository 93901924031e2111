import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataLocation as DataLocation,
  TensorProto_DataType as DataType,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "../gen/onnx/onnx_pb.ts";

/** Element types that our graphs use, by the names of the model package. */
export type ElementType = "float32" | "uint8" | "int8" | "int32" | "int64" | "bool" | "float16" | "bfloat16";

/** One edge of the graph. Made by a builder, and only good in that builder. */
export interface Value {
  readonly name: string;
}

/** A fixed extent, or the name of one that is known at run time. */
export type Dimension = number | string;

/** An integer is written as INT, `{ float }` as FLOAT, a list as INTS. */
export type Attribute = number | string | { readonly float: number } | readonly number[];

/** Name of a node's output: within the current scope, or one that callers of the graph know. */
export type OutputName = string | { readonly global: string };

export interface NodeOptions {
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /** @default "" (the ONNX standard operators) */
  readonly domain?: "" | "com.microsoft";
}

/** Bytes of an initializer in a file beside the graph. */
export interface ExternalData {
  /** File name, relative to the graph's folder. */
  readonly location: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
}

/** Stands for an optional input that is left out. */
export const ABSENT: Value = { name: "" };

/** ONNX 1.17: the newest standard operator set that the pinned runtime implements in full on the CPU. */
const OPSET = 21n;
const MICROSOFT_OPSET = 1n;
const IR_VERSION = 10n;

const DATA_TYPE: Record<ElementType, DataType> = {
  float32: DataType.FLOAT,
  uint8: DataType.UINT8,
  int8: DataType.INT8,
  int32: DataType.INT32,
  int64: DataType.INT64,
  bool: DataType.BOOL,
  float16: DataType.FLOAT16,
  bfloat16: DataType.BFLOAT16,
};

/**
 * Builds one ONNX graph in execution order and serialises it.
 *
 * Values are named after the scope they were made in, so that a profile or an error of the runtime points at the
 * layer it comes from.
 */
export class GraphBuilder {
  readonly #graph;
  readonly #names = new Set<string>();
  #scope = "";

  constructor(name: string) {
    this.#graph = create(GraphProtoSchema, { name });
  }

  /** Prefix the names of everything that `build` adds, e.g. `layers.3`. */
  within<T>(scope: string, build: () => T): T {
    const outer = this.#scope;
    this.#scope = outer === "" ? scope : `${outer}.${scope}`;
    try {
      return build();
    } finally {
      this.#scope = outer;
    }
  }

  /** A value that every run provides. */
  input(name: string, type: ElementType, shape: readonly Dimension[]): Value {
    this.#claim(name);
    this.#graph.input.push(valueInfo(name, type, shape));
    return { name };
  }

  /** Make `value` an output of the graph, under the name it has. */
  expose(value: Value, type: ElementType, shape: readonly Dimension[]): void {
    this.#graph.output.push(valueInfo(value.name, type, shape));
  }

  /** A small constant stored in the graph itself. */
  constant(name: string, type: ElementType, shape: readonly number[], data: ArrayBufferView): Value {
    const unique = this.#unique(name);
    this.#graph.initializer.push(
      tensor(unique, type, shape, {
        rawData: new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength),
      }),
    );
    return { name: unique };
  }

  /** A weight whose bytes lie in another file. Its name is global: graphs over the same weights share it. */
  external(name: string, type: ElementType, shape: readonly number[], data: ExternalData): Value {
    if (this.#names.has(name)) return { name };
    this.#claim(name);
    const entries = { location: data.location, offset: String(data.offset), length: String(data.byteLength) };
    this.#graph.initializer.push(
      tensor(name, type, shape, {
        dataLocation: DataLocation.EXTERNAL,
        externalData: Object.entries(entries).map(([key, value]) => ({ key, value })),
      }),
    );
    return { name };
  }

  /** Add a node with one output. */
  op(opType: string, inputs: readonly Value[], options: NodeOptions = {}): Value {
    const name = this.#unique(opType);
    this.#node(opType, name, inputs, [name], options);
    return { name };
  }

  /** Add a conversion to another element type. */
  cast(x: Value, type: ElementType): Value {
    return this.op("Cast", [x], { attributes: { to: DATA_TYPE[type] } });
  }

  /**
   * Add a node with several outputs, in the operator's order.
   *
   * @param outputs - a name per output, within the scope; `{ global }` is taken as it is
   */
  ops(opType: string, inputs: readonly Value[], outputs: readonly OutputName[], options: NodeOptions = {}): Value[] {
    const names = outputs.map((output) => {
      if (typeof output === "string") return this.#unique(output);
      this.#claim(output.global);
      return output.global;
    });
    this.#node(opType, this.#unique(opType), inputs, names, options);
    return names.map((name) => ({ name }));
  }

  /** The graph as the bytes of an ONNX model. */
  build(): Uint8Array {
    return toBinary(
      ModelProtoSchema,
      create(ModelProtoSchema, {
        irVersion: IR_VERSION,
        producerName: "persona-mesh",
        graph: this.#graph,
        opsetImport: [
          { domain: "", version: OPSET },
          { domain: "com.microsoft", version: MICROSOFT_OPSET },
        ],
      }),
    );
  }

  #node(opType: string, name: string, inputs: readonly Value[], outputs: string[], options: NodeOptions): void {
    this.#graph.node.push(
      create(NodeProtoSchema, {
        name,
        opType,
        domain: options.domain ?? "",
        input: inputs.map((input) => input.name),
        output: outputs,
        attribute: Object.entries(options.attributes ?? {}).map(([key, value]) => attribute(key, value)),
      }),
    );
  }

  #unique(base: string): string {
    const scoped = this.#scope === "" ? base : `${this.#scope}.${base}`;
    let name = scoped;
    for (let n = 1; this.#names.has(name); n++) name = `${scoped}.${n}`;
    this.#names.add(name);
    return name;
  }

  #claim(name: string): void {
    if (this.#names.has(name)) throw new Error(`the graph already has a value named "${name}"`);
    this.#names.add(name);
  }
}

function valueInfo(name: string, type: ElementType, shape: readonly Dimension[]): ValueInfoProto {
  const dim = shape.map((extent) =>
    typeof extent === "number"
      ? { value: { case: "dimValue" as const, value: BigInt(extent) } }
      : { value: { case: "dimParam" as const, value: extent } },
  );
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: "tensorType", value: { elemType: DATA_TYPE[type], shape: { dim } } } },
  });
}

function tensor(
  name: string,
  type: ElementType,
  shape: readonly number[],
  content: { rawData: Uint8Array } | { dataLocation: DataLocation; externalData: { key: string; value: string }[] },
): TensorProto {
  return create(TensorProtoSchema, { name, dataType: DATA_TYPE[type], dims: shape.map(BigInt), ...content });
}

function attribute(name: string, value: Attribute): AttributeProto {
  if (typeof value === "number")
    return create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) });
  if (typeof value === "string") {
    return create(AttributeProtoSchema, { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) });
  }
  if ("float" in value) return create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: value.float });
  return create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: value.map(BigInt) });
}
