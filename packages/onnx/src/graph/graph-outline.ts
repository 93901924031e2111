import { fromBinary } from "@bufbuild/protobuf";
import { TensorProto_DataType as DataType, ModelProtoSchema } from "../gen/onnx/onnx_pb.ts";
import type { ElementType } from "./graph-builder.ts";

/** A value with the type that the graph states for it. */
export interface OutlineValue {
  readonly name: string;
  readonly type: ElementType;
}

export interface OutlineNode {
  readonly name: string;
  readonly operator: string;
  /** Empty for an optional input that is left out. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Target of a Cast. */
  readonly castTo?: ElementType;
}

/** What a graph consists of, in execution order, without its weights' bytes. */
export interface GraphOutline {
  readonly inputs: readonly OutlineValue[];
  readonly outputs: readonly OutlineValue[];
  /** Constants and weights. */
  readonly initializers: readonly OutlineValue[];
  readonly nodes: readonly OutlineNode[];
}

/** Read the structure of a graph that {@link GraphBuilder} made. @throws Error for bytes that are no such graph */
export function outlineGraph(model: Uint8Array): GraphOutline {
  const graph = fromBinary(ModelProtoSchema, model).graph;
  if (graph === undefined) throw new Error("the model has no graph");
  const declared = (values: typeof graph.input) =>
    values.map(({ name, type }) => ({
      name,
      type: elementType(type?.value.case === "tensorType" ? type.value.value.elemType : DataType.UNDEFINED),
    }));
  return {
    inputs: declared(graph.input),
    outputs: declared(graph.output),
    initializers: graph.initializer.map(({ name, dataType }) => ({ name, type: elementType(dataType) })),
    nodes: graph.node.map(({ name, opType, input, output, attribute }) => {
      const to = attribute.find((entry) => opType === "Cast" && entry.name === "to");
      return {
        name,
        operator: opType,
        inputs: input,
        outputs: output,
        ...(to && { castTo: elementType(Number(to.i)) }),
      };
    }),
  };
}

const ELEMENT_TYPE: Partial<Record<DataType, ElementType>> = {
  [DataType.FLOAT]: "float32",
  [DataType.UINT8]: "uint8",
  [DataType.INT8]: "int8",
  [DataType.INT32]: "int32",
  [DataType.INT64]: "int64",
  [DataType.BOOL]: "bool",
  [DataType.FLOAT16]: "float16",
  [DataType.BFLOAT16]: "bfloat16",
};

function elementType(code: number): ElementType {
  const type = ELEMENT_TYPE[code as DataType];
  if (type === undefined) throw new Error(`the graph has a value of element type ${code}`);
  return type;
}
