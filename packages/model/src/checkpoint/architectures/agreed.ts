import { quote } from "../quote.ts";
import { invalid } from "../refusals.ts";

/**
 * The one value that is written, in one place or in several alike.
 *
 * @throws CheckpointError CHECKPOINT_CONFIG_INVALID when places disagree
 */
export function agreed<T extends number | string>(
  name: string,
  values: readonly (T | null | undefined)[],
): T | undefined {
  const different = new Set(values.filter((value) => value != null));
  if (different.size > 1) throw invalid(`"${name}" is given as ${[...different].map(quote).join(" and as ")}`);
  const [value] = different;
  return value;
}
