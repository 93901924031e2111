import { resolve } from "node:path";
import { encodeGuardBaseline } from "@persona-mesh/steering";
import { parsePrompts } from "../baseline-prompts.ts";
import { MAX_SAMPLES_FILE_BYTES, readBoundedFile } from "../json-file.ts";
import { measureBaseline } from "../measure-baseline.ts";
import { connect } from "./connect.ts";
import type { CommandContext } from "./context.ts";
import { NewFile } from "./new-file.ts";
import { formatBytes, formatMillis, progressOn } from "./progress.ts";
import { table } from "./table.ts";

/** Options of `persona model baseline`. */
export interface BaselineOptions {
  prompts: string;
  out: string;
  overwrite?: true;
  temperature?: number[];
  maxTokens: number;
  seed?: bigint;
}

/** `persona model baseline`: read the prompts, have the worker answer them, write the file, print the figures. */
export async function baselineToFile(context: CommandContext<BaselineOptions>): Promise<void> {
  const { io, options, signal } = context;
  const { maxTokens, seed = 0n } = options;
  const temperatures = [...new Set(options.temperature ?? [1])];
  const from = resolve(io.cwd, options.prompts);
  const prompts = parsePrompts(await readBoundedFile(from, MAX_SAMPLES_FILE_BYTES), from);
  // Before the work, not after it.
  await using file = await NewFile.create(resolve(io.cwd, options.out), { overwrite: options.overwrite === true });
  using connection = await connect(context, "operator");

  const progress = progressOn(io);
  const begun = performance.now();
  const total = prompts.length * temperatures.length;
  try {
    const baseline = await measureBaseline(
      connection.client,
      { prompts, temperatures, maxTokens, seed, signal },
      (done) => progress.update(`${done} of ${total} replies, ${formatMillis(performance.now() - begun)}`),
    );
    const bytes = Buffer.from(encodeGuardBaseline(baseline));
    await file.commit(bytes);
    progress.end();
    const { modelChecksum, graphDigest, samples } = baseline;
    const figures = samples.map(({ replies, ...sample }) => ({ ...sample, replies: replies.length }));
    if (context.json) {
      await context.printJson({ file: file.path, modelChecksum, graphDigest, samples: figures });
      return;
    }
    await context.printLines(
      table<(typeof figures)[number]>(
        [
          { heading: "TEMPERATURE", align: "right", cell: ({ temperature }) => String(temperature) },
          { heading: "REPLIES", align: "right", cell: ({ replies }) => String(replies) },
          { heading: "TOKENS", align: "right", cell: ({ coherence }) => coherence.meanTokens.toFixed(1) },
          { heading: "ENTROPY", align: "right", cell: ({ coherence }) => coherence.meanEntropy.toFixed(3) },
          { heading: "REPETITION", align: "right", cell: ({ coherence }) => coherence.meanRepetition.toFixed(3) },
        ],
        figures,
      ),
    );
    context.note(`${formatBytes(bytes.byteLength)} in ${options.out}, ${formatMillis(performance.now() - begun)}`);
  } catch (error) {
    progress.end();
    throw error;
  }
}
