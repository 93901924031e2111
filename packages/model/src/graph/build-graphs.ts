import { buildBody } from "./body.ts";
import type { DecoderSpec } from "./decoder-spec.ts";
import { GraphWeights } from "./graph-weights.ts";
import { buildDivergenceHead, buildLogitsHead, buildScoreHead, buildTopHead } from "./heads.ts";
import { FLOAT32, type Precision } from "./precision.ts";
import type { WeightLocation } from "./weight-location.ts";

/**
 * What a graph of the package is for; also its file name, with `.onnx`.
 *
 * `body-renorm` runs in place of `body` while a row of the batch is rescaled, which is five operators a layer.
 */
export type GraphRole =
  | "body"
  | "body-renorm"
  | "body-capture"
  | "head-top"
  | "head-logits"
  | "head-score"
  | "head-divergence";

/**
 * All graphs of a model package, over one weights file.
 *
 * Bodies end in hidden states and heads start from them, so that a call runs only the head it needs: every node of a
 * graph runs, whatever is fetched.
 *
 * @param weightsFile - name of the weights file, relative to the folder of the graphs
 */
export function buildGraphs(
  spec: DecoderSpec,
  weights: readonly WeightLocation[],
  weightsFile: string,
  precision: Precision = FLOAT32,
): ReadonlyMap<GraphRole, Uint8Array> {
  const table = new GraphWeights(weights, weightsFile, precision);
  return new Map<GraphRole, Uint8Array>([
    ["body", buildBody(spec, table, { steering: "projected", residuals: false })],
    ["body-renorm", buildBody(spec, table, { steering: "full", residuals: false })],
    ["body-capture", buildBody(spec, table, { steering: "full", residuals: true })],
    ["head-top", buildTopHead(spec, table)],
    ["head-logits", buildLogitsHead(spec, table)],
    ["head-score", buildScoreHead(spec, table)],
    ["head-divergence", buildDivergenceHead(spec, table)],
  ]);
}
