import { type Duration, durationMs, type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { printable } from "../text-layout.ts";

/** How values of the registry look in tables and lists. */

/** Digits of a digest that people see: enough to name it, and fit for a table. */
const DIGEST_DIGITS = 12;

/** To the second, UTC; empty for none. */
export function time(value: Timestamp | undefined): string {
  return value === undefined ? "" : timestampDate(value).toISOString().slice(0, 19).replace("T", " ");
}

export function digest(value: string): string {
  return printable(value).slice(0, DIGEST_DIGITS);
}

/** "0.35" of 35. */
export function hundredths(value: number): string {
  return (value / 100).toFixed(2);
}

/** The largest units that give it exactly: "365 d", "90 min", "1.5 s"; empty for none. */
export function lifetime(value: Duration | undefined): string {
  if (value === undefined) return "";
  const millis = durationMs(value);
  const units = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["min", 60_000],
  ] as const;
  const unit = units.find(([, size]) => millis % size === 0);
  return unit === undefined ? `${millis / 1000} s` : `${millis / unit[1]} ${unit[0]}`;
}

/**
 * A name as short as the command line takes it: `cheerful`, `cheerful@production`, `cheerful@3f2a9c01b7d4`, `cheerful@3`.
 *
 * @param name - full, as the registry gives it; empty for none
 */
export function shortName(name: string): string {
  const [, , , id = "", collection, inner = ""] = name.split("/");
  if (collection === undefined) return printable(id === "" ? (name.split("/")[1] ?? name) : id);
  return printable(`${id}@${collection === "versions" ? digest(inner) : inner}`);
}
