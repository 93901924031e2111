import { median } from "../statistics.ts";
import type { Generated } from "./peer-engine.ts";

/** What one batch took. */
export interface Rates {
  /** Tokens per second while every request was writing: neither prompts nor the last stragglers are in it. */
  readonly decode: number;
  /**
   * Processor time for each of those tokens, milliseconds. On a machine that others use it says more than the clock; threads that
   * spin while they wait are in it.
   */
  readonly decodeCpuMillis: number;
  /** Tokens per second from handing the batch over to its last token. */
  readonly whole: number;
  /** From handing the batch over to the first token of a request, median over the requests, milliseconds. */
  readonly firstTokenMillis: number;
}

/** Fewer steps than these would time the machine's mood. */
const MIN_STEPS = 8;

/** @throws where the replies were too short for all requests to write at once for a while */
export function ratesOf({ at, cpu }: Generated): Rates {
  const first = at.map((times) => times[0] as number);
  const last = at.map((times) => times.at(-1) as number);
  const [from, to] = [Math.max(...first), Math.min(...last)];
  const tokens = at.flat();
  const inside = tokens.filter((time) => time > from && time <= to).length;
  if (inside < MIN_STEPS * at.length) {
    throw new Error(`only ${inside} tokens were written while all ${at.length} requests wrote; ask for more --tokens`);
  }
  const used = cpu.flat();
  const cpuAt = (time: number) => used[tokens.indexOf(time)] as number;
  return {
    decodeCpuMillis: (cpuAt(to) - cpuAt(from)) / inside,
    decode: (1000 * inside) / (to - from),
    whole: (1000 * tokens.length) / Math.max(...last),
    firstTokenMillis: median(first),
  };
}
