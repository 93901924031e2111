import { type Interval, median, medianInterval } from "./statistics.ts";

/** Something to time, under a name. */
export type Contenders<Name extends string> = Readonly<Record<Name, () => Promise<void>>>;

export interface Comparison<Name extends string> {
  /** Median time of one run, milliseconds. */
  readonly millis: Readonly<Record<Name, number>>;
  /** Time of the quickest run, milliseconds: what the machine can do when nothing interrupts. */
  readonly quickest: Readonly<Record<Name, number>>;
  /** Median over the blocks of a contender's time over the reference's in the same block, and its 95 % interval. */
  ratio(name: Name, reference: Name): { readonly median: number } & Interval;
  /**
   * The same of the processor time that all threads of this process took: what other work on the machine hardly changes, where
   * it makes times jump. It does not see cores that wait for each other, or for memory that others use up.
   */
  processorRatio(name: Name, reference: Name): { readonly median: number } & Interval;
}

/** Of a block's runs, milliseconds: medians, and the quickest. */
interface BlockTimes {
  readonly wall: number;
  readonly quickest: number;
  readonly processor: number;
}

/**
 * Time contenders against each other: in every block each runs `runs` times, in an order that turns, and only times
 * within a block are compared. So whatever else the machine does falls on all of them alike.
 *
 * @param blocks - at least 30, for the interval to mean something
 */
export async function interleave<Name extends string>(
  contenders: Contenders<Name>,
  { blocks, runs }: { readonly blocks: number; readonly runs: number },
): Promise<Comparison<Name>> {
  const names = Object.keys(contenders) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as BlockTimes[]])) as Record<Name, BlockTimes[]>;
  // First runs allocate and fault pages in.
  for (const name of names) await timed(contenders[name], 3);
  for (let block = 0; block < blocks; block++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(block + turn) % names.length] as Name;
      times[name].push(await timed(contenders[name], runs));
    }
  }
  const ofEach = (summary: (blocks: readonly BlockTimes[]) => number) =>
    Object.fromEntries(names.map((name) => [name, summary(times[name])])) as Record<Name, number>;
  const ratioOf = (kind: keyof BlockTimes) => (name: Name, reference: Name) => {
    const ratios = times[name].map((time, block) => time[kind] / (times[reference][block] as BlockTimes)[kind]);
    return { median: median(ratios), ...medianInterval(ratios) };
  };
  return {
    millis: ofEach((blocks) => median(blocks.map(({ wall }) => wall))),
    quickest: ofEach((blocks) => Math.min(...blocks.map(({ quickest }) => quickest))),
    ratio: ratioOf("wall"),
    processorRatio: ratioOf("processor"),
  };
}

async function timed(run: () => Promise<void>, runs: number): Promise<BlockTimes> {
  const wall: number[] = [];
  const processor: number[] = [];
  for (let i = 0; i < runs; i++) {
    const before = process.cpuUsage();
    const started = performance.now();
    await run();
    wall.push(performance.now() - started);
    const { user, system } = process.cpuUsage(before);
    processor.push((user + system) / 1000);
  }
  return { wall: median(wall), quickest: Math.min(...wall), processor: median(processor) };
}
