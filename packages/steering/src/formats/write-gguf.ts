import type { VectorVersion } from "../vector-file.ts";
import { isShortText, MAX_TEXT_LENGTH } from "../vector-manifest.ts";
import { exportedVersion, ownKeys } from "./exported-directions.ts";
import { DEFAULT_ALIGNMENT, GGUF_MAGIC, padded } from "./gguf-container.ts";
import { architectureOf, numberOf, type Producer } from "./producer.ts";
import { OWN_PRODUCER_KEY } from "./read-gguf.ts";
import { refuse } from "./refuse.ts";

export interface WriteGgufOptions {
  /** Whose numbers and keys to write. For llama.cpp's engine choose `repeng`: it adds `direction.N` after block N. */
  readonly producer: Producer;
  /** What readers call the model, such as "llama"; llama.cpp and repeng compare it, or warn. 1 to 128 printable characters. */
  readonly modelHint: string;
}

/**
 * Write a version as a GGUF control vector, with directions times their reference norms: a reader's coefficient is alpha.
 * The same version gives the same bytes.
 *
 * @throws SteeringError VECTOR_LAYER_UNWRITABLE for a block that readers would refuse or skip, such as block 0 as `repeng`;
 *   VECTOR_HEADER_INVALID for a model hint that is none; DEGENERATE_AXIS; as `encodeVector` for what is no version
 */
export function writeGguf(version: VectorVersion, { producer, modelHint }: WriteGgufOptions): Uint8Array {
  if (!isShortText(modelHint)) {
    refuse("VECTOR_HEADER_INVALID", `the model hint is not a text of 1 to ${MAX_TEXT_LENGTH} printable characters`);
  }
  const { hiddenSize, layerCount } = version.manifest;
  const { digest, directions } = exportedVersion(version);
  const numbered = directions.map(({ layer, values }) => ({ number: numberOf(producer, layer, layerCount), values }));
  const stride = padded(hiddenSize * 4, DEFAULT_ALIGNMENT);

  const architecture = architectureOf(producer);
  const texts: (readonly [string, string])[] = [
    ["general.architecture", architecture],
    [`${architecture}.model_hint`, modelHint],
    ...ownKeys(version, digest),
    [OWN_PRODUCER_KEY, producer],
  ];
  // Without it EasySteer does not know what the directions act on, and asks.
  if (producer === "easysteer") {
    texts.push(["controlvector.easysteer", '{"version":1,"component":"hidden_states","metadata":null}']);
  }
  const header = Buffer.concat([
    Buffer.from(GGUF_MAGIC),
    u32(3),
    u64(numbered.length),
    u64(texts.length + 1),
    ...texts.flatMap(([key, value]) => [text(key), u32(TEXT_TYPE), text(value)]),
    // As repeng counts: of the directions, not of the model's blocks.
    ...[text(`${architecture}.layer_count`), u32(U32_TYPE), u32(numbered.length)],
    ...numbered.flatMap(({ number }, i) => [
      ...[text(`direction.${number}`), u32(1), u64(hiddenSize)],
      ...[u32(F32_TYPE), u64(i * stride)],
    ]),
  ]);
  const dataStart = padded(header.length, DEFAULT_ALIGNMENT);
  const bytes = new Uint8Array(dataStart + numbered.length * stride);
  bytes.set(header);
  const view = new DataView(bytes.buffer);
  for (const [i, { values }] of numbered.entries()) {
    for (const [j, x] of values.entries()) view.setFloat32(dataStart + i * stride + j * 4, x, true);
  }
  return bytes;
}

/** Numbers of value types and of the element type. */
const U32_TYPE = 4;
const TEXT_TYPE = 8;
const F32_TYPE = 0;

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Text behind its length. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
