import { CheckpointError } from "../errors.ts";
import type { CheckpointConfig } from "./config.ts";
import { ELEMENT_BYTES, isElementType } from "./element-types.ts";
import { expectedTensors, isRecomputedTensor, TIED_HEAD } from "./expected-tensors.ts";
import { quote } from "./quote.ts";
import type { TensorSource } from "./tensor-source.ts";
import type { PlacedTensor } from "./weight-files.ts";

/**
 * Check that the tensors of a checkpoint are those its config asks for, no more and no fewer.
 *
 * A tied head that is saved all the same is let through here; whether it equals the embedding is seen in its bytes.
 *
 * @returns the tensors to import, in the order the architecture lists them
 * @throws CheckpointError CHECKPOINT_TENSOR_MISMATCH, CHECKPOINT_UNSUPPORTED for elements that are no floats
 */
export function checkTensors(
  { spec, source }: CheckpointConfig,
  tensors: ReadonlyMap<string, PlacedTensor>,
): Map<string, TensorSource> {
  const expected = expectedTensors(spec, source);
  // First the types: a quantised checkpoint also has other names and shapes, but those are not what is wrong with it.
  for (const { name, dtype, file } of tensors.values()) {
    if (isElementType(dtype) || isRecomputedTensor(name)) continue;
    throw new CheckpointError(
      "CHECKPOINT_UNSUPPORTED",
      `${quote(file)}: tensor ${quote(name)} is ${dtype}; supported: ${Object.keys(ELEMENT_BYTES).join(", ")}. ` +
        "Quantised checkpoints are not read: import the original weights, and choose a precision for the package.",
    );
  }
  const mismatch = (what: string) => new CheckpointError("CHECKPOINT_TENSOR_MISMATCH", what);
  const needed = new Map<string, TensorSource>();
  for (const [name, shape] of expected) {
    const found = tensors.get(name);
    if (found === undefined) throw mismatch(`tensor ${quote(name)} [${shape}] is missing`);
    if (found.shape.join() !== shape.join()) {
      throw mismatch(
        `${quote(found.file)}: tensor ${quote(name)} is [${found.shape}]; config.json makes it [${shape}]`,
      );
    }
    needed.set(name, found as TensorSource);
  }
  for (const { name, file } of tensors.values()) {
    const isTiedHead = spec.tiedEmbeddings && name === TIED_HEAD;
    if (!expected.has(name) && !isTiedHead && !isRecomputedTensor(name)) {
      throw mismatch(
        `${quote(file)}: tensor ${quote(name)} is not part of a ${spec.architecture} model with this config.json`,
      );
    }
  }
  return needed;
}
