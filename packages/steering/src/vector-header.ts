import { canonicalJson, type JsonValue } from "./canonical-json.ts";
import { SteeringError, type VectorFormatReason } from "./error.ts";
import { parseManifest, type VectorManifest } from "./vector-manifest.ts";

/**
 * The JSON header of a vector file, in the safetensors layout: `__metadata__` first, then an entry per tensor in the order
 * of their data.
 */

const METADATA = "__metadata__";
const FLOAT_BYTES = 4;

/** Where a layer's direction lies. */
export interface DirectionSlot {
  readonly layer: number;
  /** Tensor name. */
  readonly name: string;
  /** Bytes from the start of the data, first and past the last. */
  readonly offsets: readonly [number, number];
}

/**
 * Slots in the order of their data: sorted by name as the safetensors library sorts, so that `direction.10` comes before
 * `direction.2`.
 */
export function slotsOf({ layers, hiddenSize }: Pick<VectorManifest, "layers" | "hiddenSize">): DirectionSlot[] {
  const width = hiddenSize * FLOAT_BYTES;
  return layers
    .map((layer) => ({ layer, name: `direction.${layer}` }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ layer, name }, i) => ({ layer, name, offsets: [i * width, (i + 1) * width] }));
}

/** The one header that a manifest has, without padding. */
export function headerOf(manifest: VectorManifest): string {
  const metadata = `"${METADATA}":${canonicalJson({ manifest: canonicalJson(manifest as unknown as JsonValue) })}`;
  const tensors = slotsOf(manifest).map(
    ({ name, offsets }) =>
      `"${name}":{"dtype":"F32","shape":[${manifest.hiddenSize}],"data_offsets":[${offsets.join(",")}]}`,
  );
  return `{${[metadata, ...tensors].join(",")}}`;
}

/**
 * Read a header, and check that it has the tensors of its manifest and no others.
 *
 * @param text - the header with its padding
 * @throws SteeringError VECTOR_HEADER_INVALID, VECTOR_MANIFEST_INVALID, VECTOR_TENSORS_INVALID; VECTOR_NOT_CANONICAL when it
 *   says the right things in another spelling
 */
export function parseHeader(text: string): VectorManifest {
  const header = parseObject(text, "VECTOR_HEADER_INVALID", "the header");
  const metadata = header[METADATA];
  const manifestText =
    typeof metadata === "object" && metadata !== null && Object.keys(metadata).join() === "manifest"
      ? (metadata as { readonly manifest: unknown }).manifest
      : undefined;
  if (typeof manifestText !== "string") {
    return fail("VECTOR_HEADER_INVALID", `${METADATA} has not exactly one text "manifest"`);
  }
  const manifest = parseManifest(parseObject(manifestText, "VECTOR_MANIFEST_INVALID", "the manifest"));

  const slots = slotsOf(manifest);
  for (const { name, offsets } of slots) {
    const expected = { data_offsets: offsets, dtype: "F32", shape: [manifest.hiddenSize] };
    if (!Object.hasOwn(header, name) || !isSame(header[name], expected)) {
      fail("VECTOR_TENSORS_INVALID", `tensor ${name} is not ${canonicalJson(expected)}`);
    }
  }
  if (Object.keys(header).length !== slots.length + 1) {
    fail("VECTOR_TENSORS_INVALID", `there are tensors other than the ${slots.length} of the manifest's layers`);
  }
  // Spelling: spaces, order and doubled keys, escapes, how a number is written.
  if (text.trimEnd() !== headerOf(manifest) || !/^[^ ].*\} {0,7}$/s.test(text)) {
    fail("VECTOR_NOT_CANONICAL", "the header is valid but not in canonical spelling; write it with encodeVector");
  }
  return manifest;
}

function isSame(entry: unknown, expected: { readonly [key: string]: JsonValue }): boolean {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) return false;
  const actual = entry as Record<string, unknown>;
  return (
    Object.keys(actual).length === Object.keys(expected).length &&
    Object.entries(expected).every(
      // Small by construction, unlike what the header may hold: stringify only what is as long as expected.
      ([key, value]) => Object.hasOwn(actual, key) && sameJson(actual[key], value),
    )
  );
}

function sameJson(actual: unknown, expected: JsonValue): boolean {
  if (!Array.isArray(expected)) return actual === expected;
  return Array.isArray(actual) && actual.length === expected.length && expected.every((item, i) => actual[i] === item);
}

function parseObject(text: string, reason: VectorFormatReason, what: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return fail(reason, `${what} is not JSON`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return fail(reason, `${what} is not an object`);
  return value as Record<string, unknown>;
}

function fail(reason: VectorFormatReason, problem: string): never {
  throw new SteeringError(reason, `vector file: ${problem}`);
}
