import type { Metrics } from "@persona-mesh/service";
import { problemsOf, type SourceState, WORKER_STATES } from "./source-state.ts";

/** How things stand with the registry, as figures: one gauge per state, of which one is 1. */
export function observeSource({ meter }: Metrics, source: { readonly state: SourceState }): void {
  meter
    .createObservableGauge("persona.inference.registry.state", {
      description: "1 for the state that the worker's personas are in, 0 for the others",
    })
    .addCallback((result) => {
      for (const state of Object.keys(WORKER_STATES)) {
        result.observe(state === source.state.kind ? 1 : 0, { state: state.toLowerCase() });
      }
    });
  meter
    .createObservableGauge("persona.inference.registry.revision", {
      description: "Revision of the registry that is in force here",
    })
    .addCallback((result) => {
      const { state } = source;
      result.observe("revision" in state ? Number(state.revision) : 0);
    });
  meter
    .createObservableGauge("persona.inference.registry.problems", {
      description: "Personas and versions that could not be taken on",
    })
    .addCallback((result) => result.observe(problemsOf(source.state).length));
}
