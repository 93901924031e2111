import type { DecoderSpec, ModelManifest } from "@persona-mesh/model";
import { formatBytes } from "./progress.ts";
import { fieldList } from "./table.ts";
import { printable } from "./text-layout.ts";

type Format = ModelManifest["precision"]["linear"];
type Rope = DecoderSpec["ropes"][number];

/** The manifest for people; also what `model import` ends with, which has no check to tell of. */
export function describeManifest(manifest: ModelManifest, files?: string): string[] {
  const { spec, provenance } = manifest;
  const bytes = packageBytes(manifest);
  return fieldList([
    ["model checksum", manifest.modelChecksum],
    ["graph digest", manifest.graphDigest],
    ["tokenizer digest", manifest.tokenizerDigest],
    ["architecture", spec.architecture],
    ["parameters", formatCount(parametersOf(manifest))],
    ["precision", describePrecision(manifest)],
    ["layers", describeLayers(spec)],
    ["hidden size", `${spec.hidden}, ${spec.intermediate} inside the MLP (${ACTIVATIONS[spec.activation]})`],
    ["heads", describeHeads(spec)],
    ["positions", describePositions(spec)],
    ["norms", `epsilon ${spec.normEps}${spec.sandwichNorms ? ", before and after attention and MLP" : ""}`],
    ["vocabulary", describeVocabulary(spec)],
    ["context", `${spec.contextTokens} tokens, ${formatBytes(cacheBytesPerToken(spec))} of cache for each`],
    ["weights", formatBytes(manifest.weightBytes)],
    ["package", `${formatBytes(bytes)} in ${Object.keys(manifest.files).length + 1} files`],
    ["graphs", Object.keys(manifest.graphs).join(", ")],
    ["made from", `${printable(provenance.source)}, ${provenance.createdAt}, by ${printable(provenance.importer)}`],
    ...(files === undefined ? [] : [["files", files] as const]),
  ]);
}

/** Bytes of all files but the manifest, padding between weights left out. */
export function packageBytes({ files, weights }: ModelManifest): number {
  const beside = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
  return beside + weights.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** Parameters of the checkpoint that the model was made from. */
export function parametersOf({ provenance }: ModelManifest): number {
  return provenance.tensors.reduce((sum, { shape }) => sum + shape.reduce((product, extent) => product * extent, 1), 0);
}

/** A count in the unit that people say models in: "135M", "1.24B". */
export function formatCount(count: number): string {
  const units = ["", "k", "M", "B", "T"];
  let value = count;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return unit === 0 ? String(count) : `${Number(value.toPrecision(3))}${units[unit]}`;
}

const ACTIVATIONS: Readonly<Record<DecoderSpec["activation"], string>> = {
  silu: "SiLU gate",
  "gelu-tanh": "GELU gate",
};

function describePrecision({ precision }: ModelManifest): string {
  const { name, linear, embedding, head } = precision;
  if ([linear, embedding, head].every(({ kind }) => kind === name)) return name;
  const parts = [`projections ${formatName(linear)}`, `embedding ${formatName(embedding)}`, `head ${formatName(head)}`];
  return `${name}: ${parts.join(", ")}`;
}

function formatName(format: Format): string {
  return format.kind === "nbits" ? `${format.bits} bits in blocks of ${format.block}` : format.kind;
}

/** "26: 22 see the last 512 tokens, 4 see everything" */
function describeLayers({ layers, layerKinds }: DecoderSpec): string {
  const windows = new Map<number | null, number>();
  for (const { window } of layerKinds) windows.set(window, (windows.get(window) ?? 0) + 1);
  if (windows.size === 1 && windows.has(null)) return String(layers);
  const seen = [...windows].map(([window, count]) => {
    return `${count} ${count === 1 ? "sees" : "see"} ${window === null ? "everything" : `the last ${window} tokens`}`;
  });
  return `${layers}: ${seen.join(", ")}`;
}

function describeHeads({ heads, kvHeads, headDim, attention }: DecoderSpec): string {
  const extras = [
    ...(attention.queryKeyNorm ? ["queries and keys normed"] : []),
    ...(attention.qkvBias ? ["biases"] : []),
    ...(attention.softCap === null ? [] : [`scores capped at ${attention.softCap}`]),
    ...(isUsualScale(attention.scale, headDim) ? [] : [`scores scaled by ${Number(attention.scale.toPrecision(4))}`]),
  ];
  return [`${heads}, key/value ${kvHeads}, of ${headDim}`, ...extras].join("; ");
}

function isUsualScale(scale: number, headDim: number): boolean {
  return Math.abs(scale * Math.sqrt(headDim) - 1) < 1e-6;
}

function describePositions({ ropes, layerKinds, headDim }: DecoderSpec): string {
  const without = layerKinds.filter(({ rope }) => rope === null).length;
  const tables = ropes.map((rope, index) => {
    const layers = layerKinds.filter((kind) => kind.rope === index).length;
    const where = ropes.length === 1 && without === 0 ? "" : ` in ${layersOf(layers)}`;
    return `${describeRope(rope, headDim)}${where}`;
  });
  if (without > 0) tables.push(`none in ${layersOf(without)}`);
  return tables.join("; ");
}

function layersOf(count: number): string {
  return count === 1 ? "1 layer" : `${count} layers`;
}

function describeRope({ theta, rotaryDim, scaling }: Rope, headDim: number): string {
  const part = rotaryDim === headDim ? "" : ` on ${rotaryDim} of ${headDim}`;
  return `rotary${part}, base ${theta}${describeScaling(scaling)}`;
}

function describeScaling(scaling: Rope["scaling"]): string {
  switch (scaling.kind) {
    case "none":
      return "";
    case "linear":
      return `, stretched ${scaling.factor} times`;
    case "llama3":
      return `, stretched ${scaling.factor} times beyond ${scaling.originalContext} tokens (llama3)`;
    case "yarn":
      return `, stretched ${scaling.factor} times beyond ${scaling.originalContext} tokens (YaRN)`;
    case "longrope":
      return ", stretched by a factor for each frequency (LongRoPE)";
  }
}

function describeVocabulary({ vocabulary, tiedEmbeddings, embeddingScale, logitSoftCap }: DecoderSpec): string {
  const extras = [
    ...(tiedEmbeddings ? ["tied to the head"] : []),
    ...(embeddingScale === 1 ? [] : [`embeddings scaled by ${Number(embeddingScale.toPrecision(4))}`]),
    ...(logitSoftCap === null ? [] : [`logits capped at ${logitSoftCap}`]),
  ];
  return [String(vocabulary), ...extras].join(", ");
}

/** Keys and values of one position in all layers, float32 as on the CPU. */
function cacheBytesPerToken({ layers, kvHeads, headDim }: DecoderSpec): number {
  return 2 * layers * kvHeads * headDim * Float32Array.BYTES_PER_ELEMENT;
}
