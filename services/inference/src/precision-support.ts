import type { ModelManifest } from "@persona-mesh/model";
import { providerOf } from "@persona-mesh/model/graph";
import { ServiceError } from "@persona-mesh/service";

/** The execution provider of this worker. */
export const PROVIDER = "cpu";

/**
 * Refuse a package whose weights this worker's provider has no kernels for.
 *
 * @throws ServiceError PRECISION_UNSUPPORTED naming the precision and the provider that it needs
 */
export function requireRunnable({ precision }: Pick<ModelManifest, "precision">): void {
  const neededProvider = providerOf(precision);
  if (neededProvider === PROVIDER) return;
  throw new ServiceError(
    "PRECISION_UNSUPPORTED",
    `the model package is in ${precision.name}, which needs the provider "${neededProvider}"; this worker runs on ` +
      `"${PROVIDER}". Import the checkpoint in float32, int8 or int4.`,
    { metadata: { precision: precision.name, provider: PROVIDER, neededProvider } },
  );
}
