import type { ModelManifest } from "@persona-mesh/model";
import type { Metrics } from "@persona-mesh/service";
import type { SwapFigures } from "../engine/swap-space.ts";
import type { PrefixFigures } from "../prefix/prefix-reuse.ts";
import type { SchedulerFigures } from "../scheduler/index.ts";
import type { SteeringTableFigures } from "../table/index.ts";

/** Where the figures come from: asked when somebody scrapes, never by a step. */
export interface GaugeSources {
  readonly engine: { figures(): SchedulerFigures; prefixFigures(): PrefixFigures; swapFigures(): SwapFigures };
  readonly table: { figures(): SteeringTableFigures };
  /** Positions of a slot. */
  readonly contextTokens: number;
  readonly model: { readonly manifest: Pick<ModelManifest, "modelChecksum" | "graphDigest" | "precision" | "spec"> };
}

/** How full the worker is: queue, slots, KV cache and steering table, as of the moment of asking. */
export function observeWorker({ meter }: Metrics, { engine, table, contextTokens, model }: GaugeSources): void {
  const gauge = (name: string, description: string, unit: string, read: () => number) =>
    meter.createObservableGauge(name, { description, unit }).addCallback((result) => result.observe(read()));
  const counter = (name: string, description: string, unit: string, read: () => number) =>
    meter.createObservableCounter(name, { description, unit }).addCallback((result) => result.observe(read()));

  const { modelChecksum, graphDigest, precision, spec } = model.manifest;
  const served = {
    model_checksum: modelChecksum,
    graph_digest: graphDigest,
    precision: precision.name,
    architecture: spec.architecture,
  };
  meter
    .createObservableGauge("persona.inference.model", { description: "1, with what is served in its labels" })
    .addCallback((result) => result.observe(1, served));

  gauge("persona.inference.requests.running", "Requests that have a slot", "{request}", () => engine.figures().running);
  gauge("persona.inference.requests.waiting", "Requests in the queue", "{request}", () => engine.figures().waiting);
  gauge(
    "persona.inference.requests.preempted",
    "Requests that gave their slots up and wait to go on",
    "{request}",
    () => {
      return engine.figures().preempted;
    },
  );
  gauge("persona.inference.queue.capacity", "Most requests that may wait", "{request}", () => {
    return engine.figures().queueCapacity;
  });
  meter
    .createObservableGauge("persona.inference.slots", { description: "Slots by what they do", unit: "{slot}" })
    .addCallback((result) => {
      const { slots, running, prefilling, decoding } = engine.figures();
      const states = { prefilling, decoding, leaving: running - prefilling - decoding, free: slots - running };
      for (const [state, count] of Object.entries(states)) result.observe(count, { state });
    });

  const capacity = () => engine.figures().slots * contextTokens;
  gauge("persona.inference.kv.positions", "Positions of the KV cache in use", "{position}", () => {
    return engine.figures().positions;
  });
  gauge("persona.inference.kv.capacity", "Positions of the KV cache", "{position}", capacity);
  gauge("persona.inference.kv.utilization", "Share of the KV cache in use, 0 to 1", "1", () => {
    return engine.figures().positions / capacity();
  });

  meter
    .createObservableGauge("persona.inference.table.rows", {
      description: "Rows of the steering table: held by requests, resident for the next one, free",
      unit: "{row}",
    })
    .addCallback((result) => {
      const { capacity, rowsInUse, rowsHeld } = table.figures();
      const states = { held: rowsHeld, idle: rowsInUse - rowsHeld, free: capacity - rowsInUse };
      for (const [state, count] of Object.entries(states)) result.observe(count, { state });
    });
  gauge("persona.inference.table.capacity", "Rows of the steering table for personas", "{row}", () => {
    return table.figures().capacity;
  });
  gauge("persona.inference.table.personas", "Personas whose rows are resident", "{persona}", () => {
    return table.figures().residentPersonas;
  });
  counter("persona.inference.table.hits", "Personas whose rows were there when a request came", "{request}", () => {
    return table.figures().hits;
  });
  counter("persona.inference.table.misses", "Personas whose rows had to be written", "{request}", () => {
    return table.figures().misses;
  });
  counter("persona.inference.table.evictions", "Personas whose rows gave way", "{persona}", () => {
    return table.figures().evictions;
  });
  counter("persona.inference.table.refusals", "Tries to take on a persona that found every row held", "{try}", () => {
    return table.figures().refusals;
  });

  counter("persona.inference.preemptions", "Times that a request gave its slot up", "{preemption}", () => {
    return engine.swapFigures().preemptions;
  });
  gauge("persona.inference.swap.size", "Memory of requests that gave their slots up", "By", () => {
    return engine.swapFigures().bytes;
  });
  gauge(
    "persona.inference.swap.capacity",
    "Memory that those may take",
    "By",
    () => engine.swapFigures().capacityBytes,
  );

  gauge("persona.inference.prefix.size", "Memory of the prefixes that are kept", "By", () => {
    return engine.prefixFigures().bytes;
  });
  gauge("persona.inference.prefix.capacity", "Memory that prefixes may take", "By", () => {
    return engine.prefixFigures().capacityBytes;
  });
  counter("persona.inference.prefix.lookups", "Prompts for which a prefix was looked up", "{prompt}", () => {
    return engine.prefixFigures().lookups;
  });
  counter("persona.inference.prefix.hits", "Prompts of which a prefix was there", "{prompt}", () => {
    return engine.prefixFigures().hits;
  });
  counter("persona.inference.prefix.saved_tokens", "Prompt tokens that were not computed again", "{token}", () => {
    return engine.prefixFigures().tokensSaved;
  });
  counter("persona.inference.prefix.evictions", "Chunks of prefixes that gave way", "{chunk}", () => {
    return engine.prefixFigures().evictions;
  });
}
