import { readFileSync } from "node:fs";
import { release } from "node:os";
import { expect, it } from "vitest";
import { filledRuns, privateRanges, useHugePages } from "./huge-pages.ts";

/** Bytes of this process in huge pages. */
function hugeBytes(): number {
  return 1024 * Number(/^AnonHugePages: +(\d+) kB$/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))?.[1]);
}

/** Linux 6.1 and later, unless huge pages are switched off. */
function hasHugePages(): boolean {
  if (process.platform !== "linux") return false;
  const [major, minor] = release().split(".").map(Number) as [number, number];
  return (major > 6 || (major === 6 && minor >= 1)) && !readSwitch().includes("[never]");
}

function readSwitch(): string {
  try {
    return readFileSync("/sys/kernel/mm/transparent_hugepage/enabled", "utf8");
  } catch {
    return "[never]";
  }
}

it("takes the whole huge pages of ranges that a process allocates, and no others", () => {
  const maps = [
    "00a00000-01500000 rw-p 00000000 00:00 0                                  [heap]",
    "7f0000100000-7f0002100000 rw-p 00000000 00:00 0 ",
    // No whole huge page.
    "7f1000100000-7f1000300000 rw-p 00000000 00:00 0 ",
    "7f3000000000-7f3002000000 r--p 00000000 00:00 0 ",
    "7f4000000000-7f4002000000 rw-s 00000000 00:00 0 ",
    "7f5000000000-7f5002000000 rw-p 00000000 fe:00 9013                       /models/weights.bin",
    "7f6000000000-7f6002000000 rw-p 00000000 00:00 0                          [stack]",
    "",
  ].join("\n");
  expect(privateRanges(maps)).toEqual([
    { from: 0xa00000n, to: 0x1400000n },
    { from: 0x7f0000200000n, to: 0x7f0002000000n },
  ]);
});

it("finds the runs of huge pages of which nine tenths are there", () => {
  const filled = [512, 461, 460, 0, 512];
  const resident = Uint8Array.from({ length: 5 * 512 }, (_, page) =>
    page % 512 < (filled[Math.floor(page / 512)] as number) ? 0x81 : 0x80,
  );
  expect(filledRuns(resident)).toEqual([
    { first: 0, count: 2 },
    { first: 4, count: 1 },
  ]);
  expect(filledRuns(new Uint8Array())).toEqual([]);
});

it.runIf(hasHugePages())("moves filled memory into huge pages, as it is", async () => {
  const values = new Float64Array(8 << 20).fill(0.5);
  const empty = new Float64Array(8 << 20);
  values[values.length - 1] = 7;
  const before = hugeBytes();
  const resident = process.memoryUsage.rss();
  await useHugePages();
  // All but the ends; half, for a system whose free memory is in small pieces.
  expect(hugeBytes() - before).toBeGreaterThan(values.byteLength / 2);
  // What is not filled stays so.
  expect(process.memoryUsage.rss() - resident).toBeLessThan(empty.byteLength / 2);
  expect(values.every((value, i) => value === (i === values.length - 1 ? 7 : 0.5))).toBe(true);
});
