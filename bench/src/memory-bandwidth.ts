import koffi from "koffi";
import { median } from "./statistics.ts";

/** Far beyond any cache. */
const BYTES = 1 << 29;

const REPEATS = 7;

/**
 * Memory read bandwidth, bytes per second: libc's memchr looks for a byte that is not there, each thread in a part of its own.
 * It is vectorised and does nothing but read.
 */
export async function readBandwidth(threads: number): Promise<number> {
  const libc = koffi.load(process.platform === "darwin" ? "libSystem.B.dylib" : "libc.so.6");
  const memchr = libc.func("void *memchr(const void *memory, int byte, size_t bytes)");
  const part = Math.floor(BYTES / threads);
  const parts = Array.from({ length: threads }, () => new Uint8Array(part).fill(1));
  const scan = (memory: Uint8Array) =>
    new Promise<void>((resolve, reject) => {
      memchr.async(memory, 2, part, (error: unknown) => (error === null ? resolve() : reject(error)));
    });
  const rates: number[] = [];
  for (let i = 0; i < REPEATS; i++) {
    const started = performance.now();
    await Promise.all(parts.map(scan));
    rates.push((part * threads) / ((performance.now() - started) / 1000));
  }
  return median(rates);
}
