import { createHash } from "node:crypto";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type CaptureActivationsRequestSchema,
  type CaptureActivationsResponse,
  CaptureActivationsResponseSchema,
  DataType,
  type GetModelResponse,
  GetModelResponseSchema,
} from "@persona-mesh/protocol";
import type { CaptureClient } from "../extract-vector.ts";

export const SHAPE = { layers: 4, hiddenSize: 8 };

/** The axis along which texts with "glad" differ from texts without; layer 0 knows nothing of it. */
export const PLANTED_AXIS = 5;

type Request = MessageInitShape<typeof CaptureActivationsRequestSchema>;

export interface SyntheticOptions {
  /** Changes the answers of one call: their order, their number, their content. */
  readonly tamper?: (answers: CaptureActivationsResponse[]) => CaptureActivationsResponse[];
  /** Model checksum of the n-th getModel. */
  readonly checksum?: (call: number) => string;
}

/** A model without weights: a text's residual is noise from its hash, plus the planted axis where it says "glad". */
export class SyntheticWorker implements CaptureClient {
  readonly requests: Request[] = [];
  readonly #options: SyntheticOptions;
  #modelCalls = 0;

  constructor(options: SyntheticOptions = {}) {
    this.#options = options;
  }

  async getModel(): Promise<GetModelResponse> {
    const modelChecksum = this.#options.checksum?.(this.#modelCalls++) ?? "a".repeat(64);
    return create(GetModelResponseSchema, { ...SHAPE, modelChecksum, graphDigest: "b".repeat(64) });
  }

  async *captureActivations(request: Request): AsyncGenerator<CaptureActivationsResponse> {
    this.requests.push(request);
    const answers = (request.samples ?? []).map((sample, index) => answerTo(JSON.stringify(sample), index));
    yield* this.#options.tamper?.(answers) ?? answers;
  }
}

function answerTo(text: string, index: number): CaptureActivationsResponse {
  const { layers, hiddenSize } = SHAPE;
  const tokens = 3;
  const pooled = new Float32Array(layers * hiddenSize);
  for (let layer = 0; layer < layers; layer++) {
    const noise = createHash("sha256").update(`${layer} ${text}`).digest();
    for (let unit = 0; unit < hiddenSize; unit++) {
      pooled[layer * hiddenSize + unit] = noise.readInt32LE(4 * unit) / 2 ** 33 + (unit === 0 ? 10 : 0);
    }
    const planted = layer * hiddenSize + PLANTED_AXIS;
    if (layer > 0 && text.includes("glad")) pooled[planted] = (pooled[planted] as number) + 2;
  }
  const norms = new Float32Array(tokens * layers).fill(12);
  return create(CaptureActivationsResponseSchema, {
    index,
    pooled: float32([layers, hiddenSize], pooled),
    norms: float32([tokens, layers], norms),
    sum: float32(
      [layers, hiddenSize],
      pooled.map((value) => value * tokens),
    ),
  });
}

export function float32(shape: number[], values: Float32Array) {
  // Bytes of a received message start anywhere: an odd offset here, as there.
  const bytes = new Uint8Array(values.byteLength + 1).subarray(1);
  bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return { dataType: DataType.FLOAT32, shape, data: bytes };
}
