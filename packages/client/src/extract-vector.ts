import { createHash } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type CaptureActivationsRequestSchema,
  type CaptureActivationsResponse,
  type CaptureSampleSchema,
  type GetModelResponse,
  Pooling as WirePooling,
} from "@persona-mesh/protocol";
import type { CallOptions } from "@persona-mesh/service/client";
import {
  BaselineAccumulator,
  canonicalJson,
  EXTRACTOR_VERSION,
  type ExtractedManifest,
  type Extraction,
  type ExtractionMethod,
  encodeVector,
  extract,
  MAX_PAIRS,
  MIN_PAIRS,
  middleBand,
  type Pooling,
  requireSeparation,
  SteeringError,
  VECTOR_FORMAT_VERSION,
  type VectorVersion,
  versionDigest,
} from "@persona-mesh/steering";
import type { ContrastPair, ReplySample } from "./contrast-samples.ts";
import { LocalError } from "./local-error.ts";
import { float32Values } from "./tensor.ts";

/** The two calls that extraction makes; an InferenceClient has them. Its token needs the role `service`. */
export interface CaptureClient {
  getModel(call?: CallOptions): Promise<GetModelResponse>;
  captureActivations(
    request: MessageInitShape<typeof CaptureActivationsRequestSchema>,
    call?: CallOptions,
  ): AsyncIterable<CaptureActivationsResponse>;
}

export interface ExtractVectorOptions {
  /** The concept, 1 to 128 printable characters. */
  readonly name: string;
  readonly pairs: readonly ContrastPair[];
  readonly baseline: readonly ReplySample[];
  /** @default "MEAN_DIFF" */
  readonly method?: ExtractionMethod;
  /**
   * Where the residual is read. At the last prompt token the replies become an earlier turn of the conversation: else both
   * sides of a pair would be the same.
   *
   * @default "response_mean"
   */
  readonly pooling?: Pooling;
  /**
   * Layers that get a direction; "all" is every layer but the last, whose residual only feeds the final norm.
   *
   * @default the middle band of the model
   */
  readonly layers?: readonly number[] | "all";
  /** Who made it, for the manifest. */
  readonly createdBy?: string;
  readonly signal?: AbortSignal;
}

/** How far an extraction is. */
export type ExtractionProgress =
  /** So many of all samples, of pairs and baseline together, are captured. */
  | { readonly kind: "capturing"; readonly done: number; readonly total: number }
  /** Before the figures are judged: what they are is worth seeing also where they do not pass. */
  | { readonly kind: "extracted"; readonly extraction: Extraction };

export interface ExtractedVector {
  readonly version: VectorVersion<ExtractedManifest>;
  /** The canonical bytes, which are the vector file. */
  readonly bytes: Uint8Array;
  /** sha256 of the bytes. */
  readonly digest: string;
  readonly extraction: Extraction;
  readonly model: GetModelResponse;
}

/**
 * Make a vector: capture both sides of every pair and the baseline on the worker, extract, judge, encode.
 *
 * The same samples on the same model give the same bytes, in whatever order the worker answers.
 *
 * @throws ClientError from the worker; SteeringError from extraction, NO_SEPARATION where the directions do not separate
 *   pairs held out; LocalError RESPONSE_INVALID when an answer does not fit the model, or the model changed meanwhile
 */
export async function extractVector(
  client: CaptureClient,
  options: ExtractVectorOptions,
  onProgress: (progress: ExtractionProgress) => void = () => {},
): Promise<ExtractedVector> {
  const { pairs, baseline, pooling = "response_mean", signal } = options;
  const call: CallOptions = signal === undefined ? {} : { signal };
  const model = await client.getModel(call);
  const { method = "MEAN_DIFF", layers = middleBand(model.layers) } = options;
  requireUsable(options, layers, model);
  const shape = { layerCount: model.layers, hiddenSize: model.hiddenSize };
  const total = 2 * pairs.length + baseline.length;
  let done = 0;
  const capture = (samples: readonly ReplySample[], use: (answer: CaptureActivationsResponse) => void) => {
    const asPrompt = pooling === "last_prompt_token";
    return captureInOrder(client, samples, pooling, asPrompt, call, use, () => {
      done++;
      onProgress({ kind: "capturing", done, total });
    });
  };

  const accumulator = new BaselineAccumulator(shape);
  await capture(baseline, ({ norms, sum }) => {
    accumulator.add({
      norms: float32Values(norms, [undefined, model.layers], "the norms"),
      sum: float32Values(sum, [model.layers, model.hiddenSize], "the sum"),
    });
  });
  const sideOf = async (side: "positive" | "negative") => {
    const activations: Float32Array[][] = [];
    const samples = pairs.map((pair) => ({ prompt: pair.prompt, response: pair[side], system: pair.system }));
    await capture(samples, ({ pooled }) => activations.push(rowsOf(pooled, model)));
    return activations;
  };
  const positive = await sideOf("positive");
  const negative = await sideOf("negative");
  await requireSameModel(client, model, call);

  const extraction = extract({
    pairs: { positive, negative },
    baseline: accumulator.finish(),
    method,
    ...(layers === "all" ? {} : { layers }),
  });
  onProgress({ kind: "extracted", extraction });
  requireSeparation(extraction);

  const version = versionOf(extraction, model, { ...options, pooling });
  const bytes = encodeVector(version);
  return { version, bytes, digest: versionDigest(bytes), extraction, model };
}

/** What would be refused at the end in any case, before minutes of capture: number of pairs, layers, name. */
function requireUsable(
  { pairs, name }: ExtractVectorOptions,
  layers: readonly number[] | "all",
  model: GetModelResponse,
) {
  if (pairs.length < MIN_PAIRS || pairs.length > MAX_PAIRS) {
    const reason = pairs.length < MIN_PAIRS ? "TOO_FEW_PAIRS" : "TOO_MANY_PAIRS";
    throw new SteeringError(reason, `extraction takes ${MIN_PAIRS} to ${MAX_PAIRS} pairs, and has ${pairs.length}`);
  }
  const outside = layers === "all" ? undefined : layers.find((layer) => !(layer >= 0 && layer < model.layers));
  if (outside !== undefined) {
    const range = `layers 0 to ${model.layers - 1} of the worker's model`;
    throw new SteeringError("LAYER_OUT_OF_RANGE", `layer ${outside} is not one of the ${range}`, { layer: outside });
  }
  if (!/^[^\p{Cc}]{1,128}$/u.test(name)) {
    throw new SteeringError("VECTOR_MANIFEST_INVALID", "the name is not a text of 1 to 128 printable characters");
  }
}

/** Samples of one call: few enough that progress shows and an interrupt costs little, enough that calls cost nothing. */
const BATCH_SAMPLES = 32;

/** UTF-8 bytes of one call's samples, a quarter of what a message may have. */
const BATCH_BYTES = 1 << 20;

/** Capture samples in batches and hand on the answers in the order of the samples. */
async function captureInOrder(
  client: CaptureClient,
  samples: readonly ReplySample[],
  pooling: Pooling,
  asPrompt: boolean,
  call: CallOptions,
  use: (answer: CaptureActivationsResponse) => void,
  onAnswer: () => void,
): Promise<void> {
  const wire = pooling === "response_mean" ? WirePooling.RESPONSE_MEAN : WirePooling.LAST_PROMPT_TOKEN;
  for (const batch of batchesOf(samples)) {
    const answers = new Map<number, CaptureActivationsResponse>();
    const request = { samples: batch.map((sample) => captureSample(sample, asPrompt)), pooling: wire };
    for await (const answer of client.captureActivations(request, call)) {
      if (answer.index >= batch.length || answers.has(answer.index)) {
        throw new LocalError("RESPONSE_INVALID", `the worker answered sample ${answer.index} twice, or out of range`);
      }
      answers.set(answer.index, answer);
      onAnswer();
    }
    for (const index of batch.keys()) {
      const answer = answers.get(index);
      if (answer === undefined) throw new LocalError("RESPONSE_INVALID", `the worker left out sample ${index}`);
      use(answer);
    }
  }
}

function* batchesOf(samples: readonly ReplySample[]): Generator<ReplySample[]> {
  let batch: ReplySample[] = [];
  let bytes = 0;
  for (const sample of samples) {
    const size = Buffer.byteLength(sample.prompt + sample.response + (sample.system ?? ""));
    if (batch.length === BATCH_SAMPLES || (batch.length > 0 && bytes + size > BATCH_BYTES)) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(sample);
    bytes += size;
  }
  if (batch.length > 0) yield batch;
}

function captureSample(
  { system, prompt, response }: ReplySample,
  asPrompt: boolean,
): MessageInitShape<typeof CaptureSampleSchema> {
  const messages = [
    ...(system === undefined ? [] : [{ role: "system", content: system }]),
    { role: "user", content: prompt },
    ...(asPrompt ? [{ role: "assistant", content: response }] : []),
  ];
  return {
    prompt: { input: { case: "chat", value: { messages } } },
    ...(asPrompt ? {} : { response }),
  };
}

/** Pooled residuals by layer, float32[layers][hidden]. */
function rowsOf(pooled: CaptureActivationsResponse["pooled"], model: GetModelResponse): Float32Array[] {
  const values = float32Values(pooled, [model.layers, model.hiddenSize], "the pooled residual");
  return Array.from({ length: model.layers }, (_, layer) =>
    values.subarray(layer * model.hiddenSize, (layer + 1) * model.hiddenSize),
  );
}

/** A worker that was replaced meanwhile would mix the activations of two models. */
async function requireSameModel(client: CaptureClient, model: GetModelResponse, call: CallOptions): Promise<void> {
  const now = await client.getModel(call);
  if (now.modelChecksum !== model.modelChecksum || now.graphDigest !== model.graphDigest) {
    throw new LocalError("RESPONSE_INVALID", "the worker's model changed during the extraction; run it again");
  }
}

function versionOf(
  extraction: Extraction,
  model: GetModelResponse,
  options: ExtractVectorOptions & { readonly pooling: Pooling },
): VectorVersion<ExtractedManifest> {
  const { layers } = extraction;
  const manifest: ExtractedManifest = {
    formatVersion: VECTOR_FORMAT_VERSION,
    name: options.name,
    modelChecksum: model.modelChecksum,
    graphDigest: model.graphDigest,
    hiddenSize: extraction.hiddenSize,
    layerCount: extraction.layerCount,
    site: "post_block",
    layers: layers.map(({ layer }) => layer),
    referenceNorms: layers.map(({ referenceNorm }) => referenceNorm),
    method: extraction.method,
    pooling: options.pooling,
    extractorVersion: EXTRACTOR_VERSION,
    pairCount: extraction.pairCount,
    pairsDigest: samplesDigest(options.pairs),
    baselineDigest: samplesDigest(options.baseline),
    quality: layers.map(({ quality }) => quality),
    ...(options.createdBy === undefined ? {} : { createdBy: options.createdBy }),
  };
  return { manifest, directions: new Map(layers.map(({ layer, direction }) => [layer, direction])) };
}

/** sha256 of the samples as canonical JSON, in their order. */
function samplesDigest(samples: readonly (ContrastPair | ReplySample)[]): string {
  const plain = samples.map((sample) => ({ ...sample }));
  return createHash("sha256").update(canonicalJson(plain)).digest("hex");
}
