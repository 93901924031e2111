import type { ModelManifest } from "@persona-mesh/model";
import { providerOf } from "@persona-mesh/model/graph";
import { type IntegerMatrix, OnnxRuntimeError, selfTest } from "@persona-mesh/onnx";
import { type Logger, ServiceError } from "@persona-mesh/service";

/** Elements of integers that share a scale where nothing else was asked for. */
const DEFAULT_BLOCK = 32;

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

/**
 * Say so where this machine's kernels for the package's integers give a request other last bits alone than beside others:
 * whoever chose such blocks for their speed may serve them, knowing it.
 *
 * The start-up's own self-test covers float32 and the blocks that are the default.
 *
 * @param test - the runtime's proof for a format
 */
export async function warnOfBatchDependence(
  { precision }: Pick<ModelManifest, "precision">,
  log: Pick<Logger, "warn">,
  test: (integers: readonly IntegerMatrix[]) => Promise<unknown> = (integers) => selfTest({ integers }),
): Promise<void> {
  const { linear, embedding, head } = precision;
  const integers = [linear, embedding, head].filter((format) => format.kind === "nbits");
  const unproven = integers.filter(({ block }) => block !== DEFAULT_BLOCK);
  if (unproven.length === 0) return;
  try {
    await test(unproven);
  } catch (error) {
    if (!(error instanceof OnnxRuntimeError) || error.code !== "SELF_TEST_FAILED") throw error;
    log.warn(
      { precision },
      "on this machine the last bits of a request depend on the requests beside it; import with blocks of 32 against that",
    );
  }
}
