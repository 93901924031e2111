import { join } from "node:path";
import { type DecoderSpec, HEAD, precisionOf } from "@persona-mesh/model/graph";
import type { BodyBatch, HeadBatch, RunnableModel } from "@persona-mesh/model/runtime";
import { compose, requireComposed } from "@persona-mesh/steering";
import { build } from "hdr-histogram-js";
import { UNSTEERED, writeSteering } from "../../../services/inference/src/engine/row-steering.ts";
import { SteeringTable } from "../../../services/inference/src/table/index.ts";
import { atMost, context, type Figure } from "../figure.ts";
import { interleave } from "../interleave.ts";
import { Comparison } from "../models/comparison.ts";
import { LLAMA_135M, writeRandomLlama } from "../models/random-llama.ts";
import { importStarter } from "../models/starter.ts";
import type { Bench, BenchContext } from "./bench.ts";

const BLOCKS = 31;
const RUNS = 5;
const BATCH = 16;
const MANY = 256;

/** A short cache, so that 256 rows of it fit into memory; attention over it is a small part of a step. */
const CONTEXT = 128;
const POSITION = 96;

/** Goals of the design, for the 135M shape; on the tiny starter a step is mostly the cost of having nodes at all. */
const GOAL = { personasPercent: 3, residentMicros: 100, coldMicros: 1000 };

interface CostGoals {
  /** Percent, `ADD` in all layers. */
  readonly add: number;
  /** Percent, with everything that a served step has: `ADD_RENORM`, projections, top 64 and entropy. */
  readonly everything?: number;
}

const COST_GOALS: Readonly<Record<"float32" | "int8", CostGoals>> = {
  float32: { add: 3 },
  int8: { add: 4, everything: 8 },
};

export const steeringBench: Bench = {
  name: "steering",
  description: "what steering costs a decode step, what distinct personas cost, and what a switch costs",
  run: async (bench) => {
    bench.onProgress("starter model");
    const starter = await importStarter(bench.directory);
    const figures = await measureModel("starter", starter, bench, undefined);
    const spec = { ...LLAMA_135M, contextTokens: CONTEXT };
    for (const precision of ["float32", "int8"] as const) {
      const name = `llama-135m, ${precision}`;
      bench.onProgress(`${name}: writing random weights`);
      const random = writeRandomLlama(spec, join(bench.directory, `llama-135m-${precision}`), precisionOf(precision));
      figures.push(...(await measureModel(name, random, bench, COST_GOALS[precision])));
    }
    bench.onProgress("persona switch");
    figures.push(...measureSwitch("llama-135m", spec));
    return figures;
  },
};

async function measureModel(
  name: string,
  model: RunnableModel,
  { onProgress }: BenchContext,
  goals: CostGoals | undefined,
): Promise<Figure[]> {
  const { layers, hidden } = model.spec;
  const table = randomTable(1 + MANY * layers, hidden);
  using bodies = await Comparison.open(model, MANY, table);
  const limit = (label: string, percent: number, goal: number | undefined) =>
    goal === undefined ? context(label, percent, "%") : atMost(label, percent, "%", goal);
  const figures: Figure[] = [];
  for (const batch of [1, BATCH]) {
    onProgress(`${name}, batch ${batch}: steering off, ADD, everything`);
    const [off, add] = [bodies.decode("off", batch, POSITION), bodies.decode("add", batch, POSITION)];
    const [served, full] = [bodies.decode("served", batch, POSITION), bodies.decode("full", batch, POSITION)];
    for (const { rows } of [add, served, full]) distinctPersonas(rows, layers);
    full.renorm.fill(1);
    const [topHead, logitsHead] = [bodies.head("head-top", batch), bodies.head("head-logits", batch)];
    const decode = async (body: BodyBatch, head: HeadBatch) => {
      await body.run();
      head.floats(HEAD.hidden).set(body.hidden);
      await head.run();
    };
    const compared = await interleave(
      {
        off: () => off.run(),
        add: () => add.run(),
        full: () => full.run(),
        bare: () => decode(off, logitsHead),
        served: () => decode(served, topHead),
        everything: () => decode(full, topHead),
      },
      { blocks: BLOCKS, runs: RUNS },
    );
    const label = `${name}, batch ${batch}`;
    figures.push(
      context(`${label}: body with steering compiled out`, compared.millis.off, "ms"),
      context(`${label}: the same with all logits`, compared.millis.bare, "ms"),
    );
    for (const [kind, reference, text, goal] of [
      ["add", "off", "ADD in all layers", goals?.add],
      ["full", "off", "ADD_RENORM and projections in all layers", undefined],
      ["served", "bare", "ADD and projections in all layers with top 64 and entropy, against all logits", undefined],
      [
        "everything",
        "bare",
        "ADD_RENORM and projections in all layers with top 64 and entropy, against all logits",
        goals?.everything,
      ],
    ] as const) {
      const ratio = compared.ratio(kind, reference);
      figures.push(
        limit(`${label}: ${text}`, percent(ratio.median), goal),
        context(`${label}: ${text}, 95 % from`, percent(ratio.low), "%"),
        context(`${label}: ${text}, 95 % to`, percent(ratio.high), "%"),
        context(`${label}: ${text}, of processor time`, percent(compared.processorRatio(kind, reference).median), "%"),
      );
    }
  }
  for (const batch of [BATCH, MANY]) {
    onProgress(`${name}, batch ${batch}: one persona against ${batch} distinct ones`);
    const one = bodies.decode("full", batch, POSITION);
    const distinct = bodies.decode("full", batch, POSITION);
    one.rows.forEach((_, i) => {
      one.rows[i] = 1 + (i % layers);
    });
    distinctPersonas(distinct.rows, layers);
    const compared = await interleave(
      { one: () => one.run(), distinct: () => distinct.run() },
      { blocks: BLOCKS, runs: batch === MANY ? 1 : RUNS },
    );
    const cost = percent(compared.ratio("distinct", "one").median);
    const goal = goals === undefined ? undefined : GOAL.personasPercent;
    figures.push(limit(`${name}: ${batch} distinct personas against one in all rows`, cost, goal));
  }
  figures.push(await unsteeredRowsIdentical(name, bodies, model));
  return figures;
}

/** Unsteered rows at every even place of a full batch, against the same rows with steering compiled out. */
async function unsteeredRowsIdentical(name: string, bodies: Comparison, { spec }: RunnableModel): Promise<Figure> {
  const off = bodies.decode("off", MANY, POSITION);
  const mixed = bodies.decode("full", MANY, POSITION);
  distinctPersonas(mixed.rows, spec.layers);
  for (let row = 0; row < MANY; row += 2) writeSteering(mixed, row, spec.layers, UNSTEERED, "generated");
  await off.run();
  await mixed.run();
  let different = 0;
  const bits = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);
  const [left, right] = [bits(off.hidden), bits(mixed.hidden)];
  for (let row = 0; row < MANY; row += 2) {
    const from = row * spec.hidden;
    if (left.subarray(from, from + spec.hidden).some((x, i) => x !== right[from + i])) different++;
  }
  return atMost(`${name}: unsteered rows changed beside ${MANY / 2} steered ones`, different, "rows", 0);
}

/** Every row of the batch a persona of its own, in every layer. */
function distinctPersonas(rows: Int32Array, layers: number): void {
  rows.forEach((_, i) => {
    rows[i] = 1 + Math.floor(i / layers) * layers + (i % layers);
  });
}

/** A persona of two terms at four layers: taken on from the resident table, and composed and written first. */
function measureSwitch(name: string, spec: DecoderSpec): Figure[] {
  const { layers, hidden } = spec;
  const rows = new Int32Array(BATCH * layers);
  const batch = { rows, gain: new Float32Array(BATCH), renorm: new Uint8Array(BATCH) };
  const table = new SteeringTable({ rows: 1024, hidden, layers });
  const personas = Array.from({ length: 300 }, (_, i) => terms(hidden, layers, i));
  const micros = { cold: histogram(), resident: histogram() };
  const wear = (revision: string, composed: ReadonlyMap<number, Float32Array>) => {
    const got = table.acquire(revision, composed);
    if (got.kind !== "leased") throw new Error(`the table is ${got.kind}`);
    writeSteering(batch, 3, layers, { lease: got.lease, gain: 1, renorm: false, positions: "ALL" }, "generated");
    got.lease.release();
  };
  for (const [i, persona] of personas.entries()) {
    const started = performance.now();
    const composition = compose({
      terms: persona,
      hiddenSize: hidden,
      layerCount: layers,
      capHundredths: 80,
      policy: "ACCEPT",
    });
    requireComposed(composition);
    wear(`persona ${i}`, composition.rows);
    micros.cold.recordValue((performance.now() - started) * 1000);
    const again = performance.now();
    wear(`persona ${i}`, composition.rows);
    micros.resident.recordValue((performance.now() - again) * 1000);
  }
  const median = (kind: keyof typeof micros) => micros[kind].getValueAtPercentile(50);
  return [
    atMost(`${name}: switch to a resident persona, median`, median("resident"), "µs", GOAL.residentMicros),
    context(`${name}: switch to a resident persona, p99`, micros.resident.getValueAtPercentile(99), "µs"),
    atMost(`${name}: switch to a cold persona (compose and write), median`, median("cold"), "µs", GOAL.coldMicros),
    context(`${name}: switch to a cold persona, p99`, micros.cold.getValueAtPercentile(99), "µs"),
  ];
}

function terms(hidden: number, layers: number, seed: number) {
  const middle = layers >> 1;
  return [0, 1].map((term) => ({
    id: `term ${term}`,
    alphaHundredths: 15,
    directions: new Map(
      [middle - 2, middle - 1, middle, middle + 1].map((layer) => {
        const direction = Float32Array.from({ length: hidden }, (_, i) =>
          Math.sin((seed + 1) * (i + 1) + term + layer),
        );
        const length = Math.hypot(...direction);
        return [layer, { direction: direction.map((x) => x / length), referenceNorm: 20 }] as const;
      }),
    ),
  }));
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
