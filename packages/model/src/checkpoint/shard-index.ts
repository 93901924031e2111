import { CheckpointError } from "../errors.ts";
import { isPlainName } from "./checkpoint-files.ts";
import { quote } from "./quote.ts";

/** Most files of one checkpoint; the largest in use have about 200. Each is held open. */
const MAX_SHARDS = 1000;

/**
 * Read `model.safetensors.index.json`: which file holds which tensor.
 *
 * Only `weight_map` says anything about the model. `metadata.total_size` is left alone: no reader uses it, and files in use
 * count shared tensors twice, or parameters instead of bytes.
 *
 * @param file - its name, for messages
 * @returns names of the tensors by file, in the order of the map
 * @throws CheckpointError CHECKPOINT_CORRUPT, CHECKPOINT_UNSAFE_PATH for a file name that is a path,
 *   CHECKPOINT_UNSUPPORTED for files of another format
 */
export function parseShardIndex(json: Readonly<Record<string, unknown>>, file: string): Map<string, Set<string>> {
  const corrupt = (what: string) => new CheckpointError("CHECKPOINT_CORRUPT", `${quote(file)}: ${what}`);
  const map = json["weight_map"];
  if (typeof map !== "object" || map === null || Array.isArray(map)) throw corrupt("weight_map is not an object");
  const shards = new Map<string, Set<string>>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== "string") throw corrupt(`weight_map places tensor ${quote(tensor)} in no file`);
    const tensors = shards.get(shard);
    if (tensors !== undefined) {
      tensors.add(tensor);
      continue;
    }
    if (!isPlainName(shard)) {
      throw new CheckpointError(
        "CHECKPOINT_UNSAFE_PATH",
        `${quote(file)} places tensor ${quote(tensor)} in ${quote(shard)}, which is not a plain file name`,
      );
    }
    if (!shard.endsWith(".safetensors")) {
      throw new CheckpointError(
        "CHECKPOINT_UNSUPPORTED",
        `${quote(file)} places tensor ${quote(tensor)} in ${quote(shard)}; supported: files named *.safetensors`,
      );
    }
    if (shards.size === MAX_SHARDS) throw corrupt(`more than ${MAX_SHARDS} files`);
    shards.set(shard, new Set([tensor]));
  }
  if (shards.size === 0) throw corrupt("weight_map is empty");
  return shards;
}
