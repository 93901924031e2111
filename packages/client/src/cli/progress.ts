import { type CliIo, columnsOf } from "./io.ts";
import { padEnd, truncate } from "./text-layout.ts";

/** How often the line is drawn at most: smooth to the eye, nothing to the terminal. */
const REDRAW_MILLIS = 100;

/** One line on a terminal that says how far a long step is. Silent where stderr is not a terminal. */
export interface Progress {
  update(line: string): void;
  /** Clears the line. */
  end(): void;
}

export function progressOn(io: CliIo): Progress {
  if (!io.stderr.isTTY) return { update: () => {}, end: () => {} };
  let drawn = 0;
  let visible = false;
  return {
    update(line) {
      const now = performance.now();
      if (visible && now - drawn < REDRAW_MILLIS) return;
      drawn = now;
      visible = true;
      const width = columnsOf(io) - 1;
      io.stderr.write(`\r${padEnd(truncate(line, width), width)}`);
    },
    end() {
      if (visible) io.stderr.write(`\r${" ".repeat(columnsOf(io) - 1)}\r`);
      visible = false;
    },
  };
}

/** Bytes in the unit that people read, three digits: "1.23 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toPrecision(3)} ${units[unit]}`;
}

/** A time in the unit that people read: "85 ms", "3.2 s", "4 min 05 s". */
export function formatMillis(millis: number): string {
  if (millis < 999.5) return `${millis < 10 ? millis.toFixed(1) : Math.round(millis)} ms`;
  if (millis < 59_950) return `${(millis / 1000).toFixed(1)} s`;
  const seconds = Math.round(millis / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}
