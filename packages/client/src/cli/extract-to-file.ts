import { resolve } from "node:path";
import {
  type Extraction,
  type ExtractionMethod,
  type LayerExtraction,
  type Pooling,
  separates,
} from "@persona-mesh/steering";
import { type ContrastPair, parseBaseline, parsePairs } from "../contrast-samples.ts";
import { extractVector } from "../extract-vector.ts";
import { MAX_SAMPLES_FILE_BYTES, readJsonFile } from "../json-file.ts";
import { connect } from "./connect.ts";
import type { CommandContext } from "./context.ts";
import { NewFile } from "./new-file.ts";
import { formatBytes, formatMillis, progressOn } from "./progress.ts";
import { table } from "./table.ts";

/** Options of `persona vector extract`. */
export interface ExtractOptions {
  pairs: string;
  tone?: string;
  baseline: string;
  method: ExtractionMethod;
  pooling: "response-mean" | "last-prompt-token";
  layers?: number[] | "all";
  name: string;
  out: string;
  overwrite?: true;
}

/** `persona vector extract`: read the samples, extract on the worker, write the vector file, print the figures. */
export async function extractToFile(context: CommandContext<ExtractOptions>): Promise<void> {
  const { io, options, signal } = context;
  const pairs = await readPairs(resolve(io.cwd, options.pairs), options.tone);
  const baselineFile = resolve(io.cwd, options.baseline);
  const baseline = parseBaseline(await readJsonFile(baselineFile, MAX_SAMPLES_FILE_BYTES), baselineFile);
  // Before the work, not after it.
  await using file = await NewFile.create(resolve(io.cwd, options.out), { overwrite: options.overwrite === true });
  using connection = await connect(context, "service");

  const progress = progressOn(io);
  const begun = performance.now();
  let judged: Extraction | undefined;
  try {
    const { method, name, layers } = options;
    const pooling = options.pooling.replaceAll("-", "_") as Pooling;
    const { bytes, digest, version, extraction } = await extractVector(
      connection.client,
      { name, pairs, baseline, method, pooling, signal, ...(layers === undefined ? {} : { layers }) },
      (event) => {
        if (event.kind === "extracted") judged = event.extraction;
        else progress.update(`captured ${event.done} of ${event.total}, ${formatMillis(performance.now() - begun)}`);
      },
    );
    await file.commit(bytes);
    progress.end();
    if (context.json) {
      await context.printJson({ file: file.path, digest, bytes: bytes.byteLength, manifest: version.manifest });
      return;
    }
    await context.printLines([...qualityTable(extraction), "", `${digest}  ${options.out}`]);
    context.note(`${formatBytes(bytes.byteLength)}, ${formatMillis(performance.now() - begun)}`);
  } catch (error) {
    progress.end();
    // What the figures are is the first question about a refusal.
    if (judged !== undefined && !context.json) io.stderr.write(`${qualityTable(judged).join("\n")}\n`);
    throw error;
  }
}

async function readPairs(file: string, tone: string | undefined): Promise<ContrastPair[]> {
  return parsePairs(await readJsonFile(file, MAX_SAMPLES_FILE_BYTES), tone, file);
}

/** One line per layer: how far the direction can be trusted. */
export function qualityTable(extraction: Extraction): string[] {
  const figure = (heading: string, of: (layer: LayerExtraction) => string) =>
    ({ heading, align: "right", cell: of }) as const;
  return table<LayerExtraction>(
    [
      figure("LAYER", ({ layer }) => String(layer)),
      figure("AUC", ({ quality }) => quality.auc.toFixed(3)),
      figure("RIGHT SIGNS", ({ quality }) => quality.rightSignShare.toFixed(3)),
      figure("SPLIT-HALF COS", ({ quality }) => quality.splitHalfCosine.toFixed(3)),
      figure("PAIRWISE COS", ({ quality }) => quality.pairwiseCosine.toFixed(3)),
      figure("REMOVED COS", ({ quality }) => quality.removedCosine.toFixed(3)),
      figure("NORM", ({ quality }) => quality.normBefore.toPrecision(4)),
      figure("REFERENCE NORM", ({ referenceNorm }) => referenceNorm.toPrecision(4)),
      { heading: "SEPARATES", cell: ({ quality }) => (separates(quality, extraction.pairCount) ? "yes" : "no") },
    ],
    extraction.layers,
  );
}
