import { canonicalJson } from "../canonical-json.ts";
import type { VectorVersion } from "../vector-file.ts";
import { slotsOf } from "../vector-header.ts";
import { isShortText, MAX_TEXT_LENGTH } from "../vector-manifest.ts";
import { exportedVersion, ownKeys } from "./exported-directions.ts";
import { padded } from "./gguf-container.ts";
import { LENGTH_BYTES } from "./read-safetensors.ts";
import { refuse } from "./refuse.ts";

const ALIGNMENT = 8;

export interface WriteSafetensorsOptions {
  /** What readers may call the model. @default none */
  readonly modelHint?: string;
}

/**
 * Write a version as plain safetensors for other programs: `direction.<block>`, F32 [hidden], each times its reference norm
 * so that a reader's coefficient is alpha. The canonical file of a version is another one: see `encodeVector`.
 *
 * @throws SteeringError DEGENERATE_AXIS, VECTOR_HEADER_INVALID for a model hint that is none; as `encodeVector` for what is
 *   no version
 */
export function writeSafetensors(version: VectorVersion, { modelHint }: WriteSafetensorsOptions = {}): Uint8Array {
  if (modelHint !== undefined && !isShortText(modelHint)) {
    refuse("VECTOR_HEADER_INVALID", `the model hint is not a text of 1 to ${MAX_TEXT_LENGTH} printable characters`);
  }
  const { digest, directions } = exportedVersion(version);
  const slots = slotsOf(version.manifest);
  // "pt" is what tells Hugging Face's loaders that the tensors are laid out as usual.
  const hint = modelHint === undefined ? {} : { model_hint: modelHint };
  const header: Record<string, object> = {
    __metadata__: { format: "pt", ...hint, ...Object.fromEntries(ownKeys(version, digest)) },
  };
  const { hiddenSize } = version.manifest;
  for (const { name, offsets } of slots) header[name] = { dtype: "F32", shape: [hiddenSize], data_offsets: offsets };
  const text = Buffer.from(canonicalJson(header as Parameters<typeof canonicalJson>[0]));
  const headerBytes = padded(text.length, ALIGNMENT);
  const dataStart = LENGTH_BYTES + headerBytes;
  const bytes = new Uint8Array(dataStart + slots.length * hiddenSize * 4);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(headerBytes), true);
  bytes.fill(0x20, LENGTH_BYTES, dataStart);
  bytes.set(text, LENGTH_BYTES);
  const values = new Map(directions.map((direction) => [direction.layer, direction.values]));
  for (const { layer, offsets } of slots) {
    for (const [i, x] of (values.get(layer) as Float32Array).entries()) {
      view.setFloat32(dataStart + offsets[0] + i * 4, x, true);
    }
  }
  return bytes;
}
