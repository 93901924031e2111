import { mkdirSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { BLOCK_SIZES } from "@persona-mesh/model/graph";
import { atLeast, context, type Figure } from "../figure.ts";
import { LLAMA_135M } from "../models/random-llama.ts";
import { EngineProcess } from "../peers/engine-process.ts";
import { installPeers } from "../peers/install-peers.ts";
import type { Batch, EngineName, Generated } from "../peers/peer-engine.ts";
import type { ProcessMemory } from "../peers/process-memory.ts";
import { type Rates, ratesOf } from "../peers/rates.ts";
import { type BlockSize, PEER_PRECISIONS, type PeerPrecision, writePeerModels } from "../peers/weights/write-models.ts";
import { median, medianInterval } from "../statistics.ts";
import type { Bench, BenchContext } from "./bench.ts";

const OURS = "persona-mesh" satisfies EngineName;
const PEERS = ["transformers.js", "node-llama-cpp"] as const satisfies EngineName[];
const BATCHES = [1, 16] as const;
const SLOTS = Math.max(...BATCHES);
/** Positions of a request. */
const CONTEXT = LLAMA_135M.contextTokens;
/** Prompts are of ordinary tokens. */
const FIRST_TOKEN = 300;
/** Enough to allocate and to fault pages in. */
const WARM_UP = { prompt: 32, tokens: 4 };

/** Goals of the design, tokens per second against transformers.js in float32. */
const GOAL: Record<(typeof BATCHES)[number], number> = { 1: 1.2, 16: 3 };

export const peersBench: Bench = {
  name: "peers",
  description: "transformers.js and node-llama-cpp on the same weights: tokens per second, first token, memory",
  options: {
    engines: { description: "to compare with, with commas between", default: PEERS.join(",") },
    precisions: { description: "which, with commas between", default: PEER_PRECISIONS.join(",") },
    block: { description: "elements that share a scale, 32 or 128; GGUF always has 32", default: "32" },
    prompt: {
      description: "tokens of a prompt; with the reply they lie in the middle of a slot of 512",
      default: "224",
    },
    tokens: { description: "tokens of a reply", default: "64" },
    blocks: { description: "times that each engine runs, in turns", default: "5" },
    threads: { description: "of every engine", default: String(availableParallelism()) },
  },
  run: async (bench) => {
    const settings = settingsOf(bench.options);
    await installPeers(bench.onProgress);
    const figures: Figure[] = [];
    for (const precision of settings.precisions) figures.push(...(await measure(precision, settings, bench)));
    return figures;
  },
};

interface Settings {
  readonly peers: readonly PeerName[];
  readonly precisions: readonly PeerPrecision[];
  readonly block: BlockSize;
  readonly prompt: number;
  readonly tokens: number;
  readonly blocks: number;
  readonly threads: number;
}

function settingsOf(options: BenchContext["options"]): Settings {
  const count = (name: string, most: number) => {
    const value = Number(options[name]);
    if (!Number.isInteger(value) || value < 1 || value > most) {
      throw new Error(`--${name} is a whole number from 1 to ${most}, not "${options[name]}"`);
    }
    return value;
  };
  const choice = <Name extends string>(option: string, names: readonly Name[]) =>
    (options[option] ?? "").split(",").map((given) => {
      const chosen = names.find((name) => name === given);
      if (chosen === undefined) throw new Error(`--${option} knows ${names.join(", ")}, not "${given}"`);
      return chosen;
    });
  const block = BLOCK_SIZES.find((size) => String(size) === options["block"]);
  if (block === undefined) throw new Error(`--block is ${BLOCK_SIZES.join(" or ")}, not "${options["block"]}"`);
  const prompt = count("prompt", CONTEXT - 1);
  return {
    peers: choice("engines", PEERS),
    precisions: choice("precisions", PEER_PRECISIONS),
    block,
    prompt,
    tokens: count("tokens", CONTEXT - prompt),
    blocks: count("blocks", 1000),
    threads: count("threads", 1024),
  };
}

type PeerName = (typeof PEERS)[number];

type BatchSize = (typeof BATCHES)[number];

/** What one engine did, by block. */
interface Measured {
  readonly openMillis: number;
  readonly rates: Record<BatchSize, Rates[]>;
  /** Share of the tokens that are the same as ours, by batch of each block. */
  readonly agreement: number[];
  readonly memory: ProcessMemory;
}

async function measure(precision: PeerPrecision, settings: Settings, bench: BenchContext): Promise<Figure[]> {
  const { onProgress } = bench;
  const directory = join(bench.directory, precision);
  mkdirSync(directory);
  onProgress(`${precision}: writing random weights of a 135M Llama shape in three forms`);
  const models = writePeerModels(LLAMA_135M, { name: precision, block: settings.block }, directory);
  using resources = new DisposableStack();
  // Before the folder goes that they have mapped.
  resources.defer(() => rmSync(directory, { recursive: true, force: true }));
  const engines = new Map<EngineName, EngineProcess>();
  for (const name of [OURS, ...settings.peers] as const) {
    onProgress(`${precision}: ${name} opens its model`);
    const options = { model: models[name], threads: settings.threads, slots: SLOTS, contextTokens: CONTEXT };
    const engine = resources.use(await EngineProcess.start(name, options));
    for (const size of BATCHES) await engine.generate(batchOf(size, 0, WARM_UP));
    engines.set(name, engine);
  }
  return figuresOf(precision, await runBlocks(precision, engines, settings, onProgress));
}

async function runBlocks(
  precision: PeerPrecision,
  engines: ReadonlyMap<EngineName, EngineProcess>,
  { blocks, ...sizes }: Settings,
  onProgress: (text: string) => void,
): Promise<Map<EngineName, Measured>> {
  const names = [...engines.keys()];
  const rates = new Map(names.map((name) => [name, { 1: [], 16: [] } as Record<BatchSize, Rates[]>]));
  const agreement = new Map(names.map((name) => [name, [] as number[]]));
  for (let block = 0; block < blocks; block++) {
    for (const size of BATCHES) {
      const batch = batchOf(size, 1 + block, sizes);
      const generated = new Map<EngineName, Generated>();
      for (let turn = 0; turn < names.length; turn++) {
        const name = names[(block + turn) % names.length] as EngineName;
        const result = await (engines.get(name) as EngineProcess).generate(batch);
        const rate = ratesOf(result);
        const done = `${precision}: block ${block + 1} of ${blocks}, batch ${size}`;
        onProgress(`${done}, ${name}: ${rate.decode.toFixed(1)} tokens/s, ${rate.decodeCpuMillis.toFixed(1)} ms/token`);
        rates.get(name)?.[size].push(rate);
        generated.set(name, result);
      }
      const ours = generated.get(OURS) as Generated;
      for (const [name, theirs] of generated) agreement.get(name)?.push(agreementOf(theirs, ours));
    }
  }
  return new Map(
    [...engines].map(([name, engine]) => [
      name,
      {
        openMillis: engine.openMillis,
        rates: rates.get(name) as Record<BatchSize, Rates[]>,
        agreement: agreement.get(name) as number[],
        memory: engine.memory(),
      },
    ]),
  );
}

function figuresOf(precision: PeerPrecision, measured: ReadonlyMap<EngineName, Measured>): Figure[] {
  const of = (name: EngineName) => measured.get(name) as Measured;
  const mid = (name: EngineName, size: BatchSize, what: keyof Rates) =>
    median(of(name).rates[size].map((rates) => rates[what]));
  const names = [...measured.keys()];
  const peers = PEERS.filter((name) => measured.has(name));
  const figures: Figure[] = [];
  for (const size of BATCHES) {
    const label = `${precision}, batch ${size}`;
    for (const name of names) figures.push(context(`${label}: ${name}`, mid(name, size, "decode"), "tokens/s"));
    for (const name of peers) {
      const ratios = ratiosOf(of(OURS).rates[size], of(name).rates[size]);
      const interval = medianInterval(ratios);
      const over = `${label}: over ${name}`;
      const hasGoal = name === "transformers.js" && precision === "float32";
      figures.push(
        hasGoal ? atLeast(over, median(ratios), "×", GOAL[size]) : context(over, median(ratios), "×"),
        context(`${over}, 95 % from`, interval.low, "×"),
        context(`${over}, 95 % to`, interval.high, "×"),
      );
    }
    for (const name of names) {
      figures.push(context(`${label}: ${name}, processor time`, mid(name, size, "decodeCpuMillis"), "ms/token"));
    }
    for (const name of names) {
      figures.push(context(`${label}: ${name}, prompts and replies`, mid(name, size, "whole"), "tokens/s"));
    }
    for (const name of names) {
      figures.push(context(`${label}: ${name}, first token`, mid(name, size, "firstTokenMillis"), "ms"));
    }
  }
  for (const name of names) {
    const { memory, openMillis } = of(name);
    figures.push(
      context(`${precision}: ${name}, resident memory`, memory.resident / 1e6, "MB"),
      context(`${precision}: ${name}, of it not backed by files`, memory.anonymous / 1e6, "MB"),
      context(`${precision}: ${name}, process start to model ready`, openMillis / 1000, "s"),
    );
  }
  // Integers are rounded differently in a GGUF file; greedy texts of random weights part at the first near tie.
  for (const name of peers) {
    figures.push(context(`${precision}: ${name}, tokens that are ours`, 100 * median(of(name).agreement), "%"));
  }
  return figures;
}

/** Ours over theirs, decode, by block. */
function ratiosOf(ours: readonly Rates[], theirs: readonly Rates[]): number[] {
  return ours.map(({ decode }, block) => decode / (theirs[block] as Rates).decode);
}

function agreementOf(theirs: Generated, ours: Generated): number {
  const tokens = ours.ids.flat();
  const others = theirs.ids.flat();
  return tokens.filter((id, index) => others[index] === id).length / tokens.length;
}

/** Prompts that no engine has seen before: nothing of an earlier block can be reused. */
function batchOf(size: BatchSize, block: number, { prompt, tokens }: Pick<Settings, "prompt" | "tokens">): Batch {
  let state = 1 + block * 64 + size;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return FIRST_TOKEN + (state % (LLAMA_135M.vocabulary - FIRST_TOKEN));
  };
  return { prompts: Array.from({ length: size }, () => Array.from({ length: prompt }, next)), tokens };
}
