import { writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { type BLOCK_SIZES, type DecoderSpec, FLOAT32, precisionOf } from "@persona-mesh/model/graph";
import { writeRandomLlama } from "../../models/random-llama.ts";
import { MODEL_FILE, type StoredModel } from "../engines/persona-mesh.ts";
import type { EngineName } from "../peer-engine.ts";
import { type GgufPrecision, writeLlamaGguf } from "./llama-gguf.ts";
import { writeTransformersModel } from "./transformers-files.ts";

export const PEER_PRECISIONS = ["float32", "int8", "int4"] as const;

export type PeerPrecision = (typeof PEER_PRECISIONS)[number];

const GGUF: Record<PeerPrecision, GgufPrecision> = { float32: "F32", int8: "Q8_0", int4: "Q4_0" };

/** The same weights for every engine, in its own form. */
export type PeerModels = Readonly<Record<EngineName, string>>;

/** Elements that share a scale, in what transformers.js and we read; GGUF has 32. */
export type BlockSize = (typeof BLOCK_SIZES)[number];

/** @returns what each engine opens, below `directory` */
export function writePeerModels(
  spec: DecoderSpec,
  { name: precision, block }: { readonly name: PeerPrecision; readonly block: BlockSize },
  directory: string,
): PeerModels {
  const ours = join(directory, `package-${precision}`);
  const model = writeRandomLlama(spec, ours, precision === "float32" ? FLOAT32 : precisionOf(precision, { block }));
  const { weights, weightsPath } = model;
  const stored: StoredModel = { spec, weights, weightsFile: basename(weightsPath) };
  writeFileSync(join(ours, MODEL_FILE), JSON.stringify(stored));
  const theirs = writeTransformersModel(model, join(directory, `transformers-${precision}`));
  // GGUF has float32 rounded in its own way, not our integers.
  const exact = precision === "float32" ? model : writeRandomLlama(spec, join(directory, "exact"), FLOAT32);
  const gguf = join(directory, `${GGUF[precision]}.gguf`);
  writeLlamaGguf(exact, gguf, GGUF[precision]);
  return { "persona-mesh": ours, "transformers.js": theirs, "node-llama-cpp": gguf };
}
