import { opendir } from "node:fs/promises";
import { CheckpointError } from "../errors.ts";
import type { CheckpointFiles } from "./checkpoint-files.ts";
import { quote } from "./quote.ts";

/** Files of weights that are not read, and what can be done about each. */
const OTHER_FORMATS: readonly (readonly [pattern: RegExp, advice: string])[] = [
  [
    /^pytorch_model.*\.bin(\.index\.json)?$|\.(pth|pt|ckpt)$/,
    "is a Python pickle, which runs code when it is read. Save the model with safe_serialization=True in transformers",
  ],
  [/\.gguf$/, "is a GGUF file, mostly quantised. Import the checkpoint it was made from"],
  [/^adapter_model\./, "is an adapter, not a model. Merge it into its base model and save that"],
  [
    /^consolidated.*\.safetensors$/,
    "has the tensor names of another library. Import the transformers form of the model",
  ],
  [/^model-\d+-of-\d+\.safetensors$/, 'is a part of a model; which part is said by "model.safetensors.index.json"'],
  [/^(tf_model\.h5|flax_model\.msgpack|.*\.onnx)$/, "is of another framework. Save the model as safetensors"],
];

/** Entries of a directory that are looked at; a checkpoint has a few hundred. */
const MAX_ENTRIES = 10_000;

/**
 * Say why a checkpoint without `wanted` cannot be imported.
 *
 * @throws CheckpointError always: CHECKPOINT_UNSUPPORTED naming a file of weights in another format, else
 *   CHECKPOINT_NOT_FOUND
 */
export async function refuseOtherFormats(checkpoint: CheckpointFiles, wanted: string): Promise<never> {
  let seen = 0;
  for await (const { name } of await opendir(checkpoint.directory)) {
    const format = OTHER_FORMATS.find(([pattern]) => pattern.test(name));
    if (format !== undefined) {
      throw new CheckpointError(
        "CHECKPOINT_UNSUPPORTED",
        `the checkpoint has no ${quote(wanted)}, and ${quote(name)} ${format[1]}.`,
      );
    }
    if (++seen === MAX_ENTRIES) break;
  }
  throw new CheckpointError("CHECKPOINT_NOT_FOUND", `the checkpoint has no ${quote(wanted)}`);
}
