import type { ModelManifest } from "@persona-mesh/model";
import type { ModelRuntime } from "@persona-mesh/model/runtime";
import { CheckFailure, steeringSelfTest } from "@persona-mesh/model/verify";
import { type Logger, ServiceError } from "@persona-mesh/service";

/**
 * Refuse to serve with a runtime on which steering does not act as the contract says: a persona that vanishes silently is the
 * one failure that no caller would notice. For before the first request: the table is empty again afterwards.
 *
 * @param table - float32[rows, hidden]: what the runtime gathers rows from
 * @throws ServiceError STEERING_SELF_TEST_FAILED with what was predicted and what came
 */
export async function requireSteering(
  runtime: ModelRuntime,
  table: Float32Array,
  { precision }: Pick<ModelManifest, "precision">,
  log: Pick<Logger, "info" | "warn">,
): Promise<void> {
  try {
    const shown = await steeringSelfTest(runtime, table, precision);
    if (shown === undefined) log.warn("the steering table has no row for a persona: nothing can be steered");
    else log.info(shown, "steering acts as predicted");
  } catch (error) {
    if (!(error instanceof CheckFailure)) throw error;
    const metadata = Object.fromEntries(Object.entries(error.figures).map(([name, value]) => [name, String(value)]));
    throw new ServiceError("STEERING_SELF_TEST_FAILED", error.message, { metadata, cause: error });
  }
}
