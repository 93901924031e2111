import type { MatrixFormat } from "@persona-mesh/model/graph";
import { GraphBuilder, Session, Tensor, type Value } from "@persona-mesh/onnx";

/** Rows of the left side: as a large prefill chunk has. */
const ROWS = 256;
/** Wide enough that the time goes into multiplying, and larger than what a core's own cache holds. */
const WIDTH = 2048;

/**
 * One large matrix product in the runtime, with weights of a format: the arithmetic peak that a prefill could reach if
 * it were nothing but products.
 */
export class PeakProduct implements Disposable {
  /** Floating-point (or integer) operations of a run; a multiplication and its addition are two. */
  readonly operations = 2 * ROWS * WIDTH * WIDTH;
  readonly #session: Session;
  readonly #tensors: readonly Tensor[];
  readonly #binding;

  static async open(format: MatrixFormat): Promise<PeakProduct> {
    return new PeakProduct(await Session.load(productGraph(format)));
  }

  private constructor(session: Session) {
    const tensor = () =>
      Tensor.from(
        "float32",
        [ROWS, WIDTH],
        Float32Array.from({ length: ROWS * WIDTH }, (_, i) => Math.sin(i)),
      );
    const [x, y] = [tensor(), tensor()];
    this.#session = session;
    this.#tensors = [x, y];
    this.#binding = session.bind({ inputs: { x }, outputs: { y } });
  }

  run(): Promise<void> {
    return this.#session.run(this.#binding);
  }

  [Symbol.dispose](): void {
    this.#session.close();
    for (const tensor of this.#tensors) tensor.close();
  }
}

/** x float32[ROWS, WIDTH] → y, the same. */
function productGraph(format: MatrixFormat): Uint8Array {
  const graph = new GraphBuilder("peak");
  const x = graph.input("x", "float32", [ROWS, WIDTH]);
  for (const y of multiply(graph, x, format)) graph.expose(y, "float32", [ROWS, WIDTH]);
  return graph.build();
}

function multiply(graph: GraphBuilder, x: Value, format: MatrixFormat): Value[] {
  const output = [{ global: "y" }];
  if (format.kind === "float32") {
    const values = Float32Array.from({ length: WIDTH * WIDTH }, (_, i) => Math.cos(i) / WIDTH);
    return graph.ops("MatMul", [x, graph.constant("w", "float32", [WIDTH, WIDTH], values)], output);
  }
  if (format.kind !== "nbits") throw new Error(`the CPU multiplies no ${format.kind}`);
  const { bits, block } = format;
  const blocks = WIDTH / block;
  const data = Uint8Array.from({ length: (WIDTH * WIDTH * bits) / 8 }, (_, i) => (i * 2654435761) >>> 24);
  const scales = new Float32Array(WIDTH * blocks).fill(1 / WIDTH);
  const inputs = [
    x,
    graph.constant("w", "uint8", [WIDTH, blocks, (block * bits) / 8], data),
    graph.constant("scales", "float32", [WIDTH, blocks], scales),
  ];
  const attributes = { K: WIDTH, N: WIDTH, bits, block_size: block, accuracy_level: 4 };
  return graph.ops("MatMulNBits", inputs, output, { domain: "com.microsoft", attributes });
}
