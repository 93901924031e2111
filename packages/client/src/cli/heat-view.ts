import { resolve } from "node:path";
import type { Command } from "commander";
import type { GenerateEvent, Reply } from "../reply.ts";
import { integer } from "./arguments.ts";
import type { CommandContext } from "./context.ts";
import { UsageError } from "./failure.ts";
import { heatLegend, paintHeat } from "./heat.ts";
import { heatPage } from "./heat-page.ts";
import { HeatTrace } from "./heat-trace.ts";
import { coloursOn } from "./io.ts";
import { NewFile } from "./new-file.ts";

/** How a reply's tokens are shown one by one. */
export interface HeatOptions {
  heat?: true;
  heatLayer?: number;
  html?: string;
  overwrite?: true;
}

/** More layers than any model has. */
const MAX_LAYER = 1023;

export function addHeatOptions(command: Command): Command {
  return command
    .optionsGroup("Token by token:")
    .option("--heat", "colour the text by its projection on the persona's direction")
    .option(
      "--heat-layer <n>",
      "whose projection (default: where the persona's dose is largest)",
      integer(0, MAX_LAYER),
    )
    .option("--html <file>", "write a page of it, with the figures of every token")
    .option("--overwrite", "replace the page where it exists");
}

/** The token-level view of one reply: on the terminal, in a file, or both. */
export class HeatView implements AsyncDisposable {
  readonly #trace: HeatTrace;
  readonly #file: NewFile | undefined;
  readonly #context: CommandContext<HeatOptions>;

  private constructor(context: CommandContext<HeatOptions>, file: NewFile | undefined) {
    this.#context = context;
    this.#trace = new HeatTrace(context.options.heatLayer);
    this.#file = file;
  }

  /**
   * @returns undefined where nothing of it is asked for
   * @throws UsageError; LocalError FILE_EXISTS, before there is anything to write
   */
  static async open(context: CommandContext<HeatOptions>): Promise<HeatView | undefined> {
    const { heat, heatLayer, html, overwrite } = context.options;
    if (heat && context.json) throw new UsageError("OPTIONS_CONFLICT", "--json has no colours: leave out --heat");
    if (overwrite && html === undefined) throw new UsageError("OPTIONS_CONFLICT", "--overwrite needs --html");
    if (!heat && html === undefined) {
      if (heatLayer !== undefined) throw new UsageError("OPTIONS_CONFLICT", "--heat-layer needs --heat or --html");
      return undefined;
    }
    const create = (path: string) => NewFile.create(resolve(context.io.cwd, path), { overwrite: overwrite === true });
    return new HeatView(context, html === undefined ? undefined : await create(html));
  }

  /** Passes every event on; what is printed next is coloured by the event that came last. */
  observe(events: AsyncIterable<GenerateEvent>): AsyncGenerator<GenerateEvent> {
    return this.#trace.observe(events);
  }

  /** The piece that came last, in its colour where there are colours. @param text - as it is to be shown */
  paint(text: string): string {
    return this.#isColoured ? paintHeat(text, this.#trace.pieces.at(-1)?.projection) : text;
  }

  /** Say what the colours were, and write the page. @param prompt - for the page */
  async finish(reply: Reply, prompt: string): Promise<void> {
    const { layer, pieces } = this.#trace;
    const { io, options } = this.#context;
    if (options.heat) {
      if (layer === undefined) this.#context.note("no persona: nothing to colour");
      else if (this.#isColoured) io.stderr.write(`${heatLegend(layer, coloursOn(io, io.stderr, options.color))}\n`);
      else this.#context.note("no colours here; --html FILE writes a page with them");
    }
    if (this.#file === undefined) return;
    await this.#file.commit(Buffer.from(heatPage({ prompt, reply, pieces, layer })));
    this.#context.note(`wrote ${this.#file.path}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file?.[Symbol.asyncDispose]();
  }

  get #isColoured(): boolean {
    const { io, options } = this.#context;
    return options.heat === true && coloursOn(io, io.stdout, options.color);
  }
}
