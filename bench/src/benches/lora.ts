import { join } from "node:path";
import { type DecoderSpec, precisionOf } from "@persona-mesh/model/graph";
import { build } from "hdr-histogram-js";
import { writeSteering } from "../../../services/inference/src/engine/row-steering.ts";
import { SteeringTable } from "../../../services/inference/src/table/index.ts";
import { atMost, context, type Figure } from "../figure.ts";
import { interleave } from "../interleave.ts";
import { AdapterPool } from "../lora/adapter-pool.ts";
import { checkAdapters } from "../lora/check-adapters.ts";
import { LoraBodies } from "../lora/lora-bodies.ts";
import { RANK } from "../lora/lora-weights.ts";
import { LLAMA_135M, writeRandomLlama } from "../models/random-llama.ts";
import type { Bench, BenchContext } from "./bench.ts";

const BLOCKS = 31;
const RUNS = 3;
const BATCHES = [1, 4, 16];
const ADAPTERS = 16;

/** As `bench steering`. */
const CONTEXT = 128;
const POSITION = 96;

/** Adapters as small as trained ones are beside their weights. */
const SCALE = 0.01;

/** What the reference article says LoRA adds to a reply's time, percent. */
const ARTICLE_PERCENT = 40;

/** Largest difference that two orders of the same float32 sums make. */
const SAME_LOGITS = 1e-3;

const SWITCHES = 100;

export const loraBench: Bench = {
  name: "lora",
  description: `what a rank-${RANK} adapter for each row costs a decode step and a switch, beside steering`,
  run: async (bench) => {
    bench.onProgress("whether adapters beside the weights give what adapters in the weights give");
    const { error, effect } = await checkAdapters(bench.directory);
    // A check of adapters that do nothing would show nothing.
    if (!(effect > 100 * SAME_LOGITS)) throw new Error(`the adapters of the check change logits by ${effect} only`);
    const figures = [
      atMost("tiny model: largest error of a logit against merged weights", error, "", SAME_LOGITS),
      context("tiny model: what an adapter changes a logit by", effect, ""),
      context("the reference article: LoRA against none", ARTICLE_PERCENT, "%"),
    ];
    const spec = { ...LLAMA_135M, contextTokens: CONTEXT };
    using pool = new AdapterPool(spec, ADAPTERS, SCALE);
    for (const precision of ["float32", "int8"] as const) {
      const name = `llama-135m, ${precision}`;
      bench.onProgress(`${name}: writing random weights`);
      const model = writeRandomLlama(spec, join(bench.directory, `llama-135m-${precision}`), precisionOf(precision));
      figures.push(...(await measureSteps(name, model, pool, bench)));
    }
    bench.onProgress("switching");
    figures.push(...measureSwitches(spec, pool));
    return figures;
  },
};

async function measureSteps(
  name: string,
  model: ReturnType<typeof writeRandomLlama>,
  pool: AdapterPool,
  { onProgress }: BenchContext,
): Promise<Figure[]> {
  const { layers, hidden } = model.spec;
  const slots = Math.max(...BATCHES);
  using bodies = await LoraBodies.open(model, slots, randomTable(1 + slots * layers, hidden), pool);
  const figures: Figure[] = [];
  for (const batch of BATCHES) {
    onProgress(`${name}, batch ${batch}: no steering, personas, adapters`);
    const distinct = Int32Array.from({ length: batch }, (_, row) => row);
    const off = bodies.decode("off", batch, POSITION);
    const personas = bodies.decode("add", batch, POSITION);
    personas.rows.forEach((_, i) => {
      personas.rows[i] = 1 + i;
    });
    const shared = bodies.decode("shared", batch, POSITION);
    const one = bodies.decode("gathered", batch, POSITION);
    const many = bodies.decode("gathered", batch, POSITION, distinct);
    const placed = bodies.decode("placed", batch, POSITION);
    const compared = await interleave(
      {
        off: () => off.run(),
        personas: () => personas.run(),
        shared: () => shared.run(),
        one: () => one.run(),
        many: () => many.run(),
        placed: () => placed.run(),
      },
      { blocks: BLOCKS, runs: RUNS },
    );
    const label = `${name}, batch ${batch}`;
    figures.push(context(`${label}: neither persona nor adapter`, compared.millis.off, "ms"));
    for (const [kind, text] of [
      ["personas", "a persona of its own for each row, ADD in all layers"],
      ["shared", "one adapter for the whole batch"],
      ["one", "an adapter for each row, gathered, all the same"],
      ["many", "an adapter for each row, gathered, all distinct"],
      ["placed", "an adapter for each row, copied to the row's place, all distinct"],
    ] as const) {
      const ratio = compared.ratio(kind, "off");
      figures.push(
        context(`${label}: ${text}`, percent(ratio.median), "%"),
        context(`${label}: ${text}, 95 % from`, percent(ratio.low), "%"),
        context(`${label}: ${text}, 95 % to`, percent(ratio.high), "%"),
        context(`${label}: ${text}, of processor time`, percent(compared.processorRatio(kind, "off").median), "%"),
      );
    }
  }
  return figures;
}

/** What is written, and how long that takes, until a row's next step wears another adapter, or another persona. */
function measureSwitches(spec: DecoderSpec, pool: AdapterPool): Figure[] {
  const { layers, hidden } = spec;
  const micros = { adapter: histogram(), persona: histogram(), rows: histogram() };
  const batch = { rows: new Int32Array(layers), gain: new Float32Array(1), renorm: new Uint8Array(1) };
  const table = new SteeringTable({ rows: 1 + SWITCHES * layers, hidden, layers });
  const composed = new Map(
    Array.from({ length: layers }, (_, layer) => [layer, new Float32Array(hidden).fill(0.01 * (layer + 1))]),
  );
  for (let i = 0; i < SWITCHES; i++) {
    const started = performance.now();
    pool.write(i % ADAPTERS, (i + 1) % ADAPTERS);
    micros.adapter.recordValue((performance.now() - started) * 1000);
    wear(`persona ${i}`, micros.persona);
    wear(`persona ${i}`, micros.rows);
  }
  /** The first time its rows are written to the table, from then on they are there. */
  function wear(revision: string, times: ReturnType<typeof histogram>): void {
    const started = performance.now();
    const got = table.acquire(revision, composed);
    if (got.kind !== "leased") throw new Error(`the table is ${got.kind}`);
    writeSteering(batch, 0, layers, { lease: got.lease, gain: 1, renorm: false, positions: "ALL" }, "generated");
    got.lease.release();
    times.recordValue((performance.now() - started) * 1000);
  }
  const median = (times: ReturnType<typeof histogram>) => times.getValueAtPercentile(50);
  const rowBytes = batch.rows.byteLength + batch.gain.byteLength + batch.renorm.byteLength;
  return [
    context("switch to an adapter that is not in its place: written", pool.bytes, "bytes"),
    context("switch to an adapter that is not in its place", median(micros.adapter), "µs"),
    context("switch to an adapter that is gathered from the pool: written", Int32Array.BYTES_PER_ELEMENT, "bytes"),
    context(
      "switch to a persona that is not in the table, all layers: written",
      layers * hidden * 4 + rowBytes,
      "bytes",
    ),
    context("switch to a persona that is not in the table, all layers", median(micros.persona), "µs"),
    context("switch to a persona that is in the table: written", rowBytes, "bytes"),
    context("switch to a persona that is in the table", median(micros.rows), "µs"),
    context("an adapter in memory over a persona's rows", pool.bytes / (layers * hidden * 4), "×"),
  ];
}

/** Rows of norm about 1, row 0 all zeros. */
function randomTable(rows: number, hidden: number): Float32Array {
  const table = new Float32Array(rows * hidden);
  for (let i = hidden; i < table.length; i++) table[i] = Math.sin(i) / Math.sqrt(hidden);
  return table;
}

function histogram() {
  return build({ lowestDiscernibleValue: 1, highestTrackableValue: 10_000_000, numberOfSignificantValueDigits: 3 });
}

function percent(ratio: number): number {
  return 100 * (ratio - 1);
}
