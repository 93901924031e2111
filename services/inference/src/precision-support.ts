import type { ModelManifest } from "@persona-mesh/model";
import { ServiceError } from "@persona-mesh/service";

/**
 * Refuse a package whose weights this worker's provider has no kernels for.
 *
 * @throws ServiceError PRECISION_UNSUPPORTED naming the precision and the provider that it needs
 */
export function requireRunnable({ precision }: Pick<ModelManifest, "precision">): void {
  const { name, linear, embedding, head } = precision;
  if (![linear, embedding, head].some(({ kind }) => kind === "bfloat16")) return;
  throw new ServiceError(
    "PRECISION_UNSUPPORTED",
    `the model package is in ${name}, with weights in bfloat16: they need the provider "cuda", and this worker runs on ` +
      `"cpu". Import the checkpoint in float32, int8 or int4.`,
    { metadata: { precision: name, provider: "cpu", neededProvider: "cuda" } },
  );
}
