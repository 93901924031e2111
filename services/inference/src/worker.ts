import type { ModelPackage, ModelText } from "@persona-mesh/model";
import type { Engine } from "./engine/engine.ts";
import type { ServedBaseline } from "./guard/served-baseline.ts";
import type { PersonaCatalog } from "./personas/persona-catalog.ts";
import type { SteeringTable } from "./table/index.ts";
import type { WorkerTelemetry } from "./telemetry/worker-telemetry.ts";

/** What the calls of a worker share. */
export interface Worker {
  readonly model: ModelPackage;
  readonly text: ModelText;
  /** Positions of a slot: what is served of the model's context. */
  readonly contextTokens: number;
  /** Longer texts, in UTF-8 bytes, are too long for the context whatever they say. */
  readonly mostTextBytes: number;
  readonly engine: Engine;
  readonly table: SteeringTable;
  readonly personas: PersonaCatalog;
  /** What the guard compares replies with. */
  readonly baseline: ServedBaseline;
  readonly telemetry: WorkerTelemetry;
}
