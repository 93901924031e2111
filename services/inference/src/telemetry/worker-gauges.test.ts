import { createLogger, createMetrics } from "@persona-mesh/service";
import { expect, test } from "vitest";
import { observeWorker } from "./worker-gauges.ts";

test("the worker's figures are read when somebody asks, and add up", async () => {
  const metrics = await createMetrics("test", createLogger("test", "silent"));
  const engine = {
    slots: 8,
    running: 5,
    prefilling: 1,
    decoding: 3,
    waiting: 7,
    preempted: 2,
    queueCapacity: 100,
    positions: 1_024,
  };
  const table = {
    capacity: 100,
    rowsInUse: 40,
    rowsHeld: 30,
    residentPersonas: 12,
    heldPersonas: 9,
    hits: 50,
    misses: 13,
    evictions: 2,
    refusals: 1,
  };
  const prefixes = {
    bytes: 2_048,
    capacityBytes: 8_192,
    chunks: 2,
    lookups: 20,
    hits: 5,
    tokensSaved: 640,
    evictions: 3,
  };
  let asked = 0;
  observeWorker(metrics, {
    engine: {
      figures: () => {
        asked++;
        return engine as never;
      },
      prefixFigures: () => prefixes,
      swapFigures: () => ({ bytes: 4_096, capacityBytes: 16_384, preemptions: 6 }),
    },
    table: { figures: () => table },
    contextTokens: 512,
    model: {
      manifest: {
        modelChecksum: "cafe",
        graphDigest: "f00d",
        precision: { name: "int8" },
        spec: { architecture: "llama" },
      } as never,
    },
  });
  expect(asked).toBe(0);
  const lines = (await metrics.text()).split("\n").filter((line) => line.startsWith("persona_"));
  expect(lines.toSorted()).toEqual([
    "persona_inference_kv_capacity 4096",
    "persona_inference_kv_positions 1024",
    "persona_inference_kv_utilization 0.25",
    `persona_inference_model{model_checksum="cafe",graph_digest="f00d",precision="int8",architecture="llama"} 1`,
    "persona_inference_preemptions_total 6",
    "persona_inference_prefix_capacity_bytes 8192",
    "persona_inference_prefix_evictions_total 3",
    "persona_inference_prefix_hits_total 5",
    "persona_inference_prefix_lookups_total 20",
    "persona_inference_prefix_saved_tokens_total 640",
    "persona_inference_prefix_size_bytes 2048",
    "persona_inference_queue_capacity 100",
    "persona_inference_requests_preempted 2",
    "persona_inference_requests_running 5",
    "persona_inference_requests_waiting 7",
    `persona_inference_slots{state="decoding"} 3`,
    `persona_inference_slots{state="free"} 3`,
    `persona_inference_slots{state="leaving"} 1`,
    `persona_inference_slots{state="prefilling"} 1`,
    "persona_inference_swap_capacity_bytes 16384",
    "persona_inference_swap_size_bytes 4096",
    "persona_inference_table_capacity 100",
    "persona_inference_table_evictions_total 2",
    "persona_inference_table_hits_total 50",
    "persona_inference_table_misses_total 13",
    "persona_inference_table_personas 12",
    "persona_inference_table_refusals_total 1",
    `persona_inference_table_rows{state="free"} 60`,
    `persona_inference_table_rows{state="held"} 30`,
    `persona_inference_table_rows{state="idle"} 10`,
  ]);
});
