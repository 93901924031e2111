import type { Watched } from "./history.ts";

/**
 * What a watcher should not have seen: revisions out of order or twice, gaps, changes that were committed and not told, and
 * a second snapshot, which would hide all that: nothing is compacted in a run.
 *
 * @param committed - every revision that changed something for the watched model, ascending
 */
export function checkWatch({ watcher, events }: Watched, committed: readonly bigint[]): string[] {
  const violations: string[] = [];
  const say = (what: string) => violations.push(`${watcher}: ${what}`);
  let position: bigint | undefined;
  const told = new Set<bigint>();
  /** The snapshot has told everything up to here. */
  let covered = -1n;
  for (const event of events) {
    if (event.kind === "snapshot") {
      if (position === undefined) covered = event.revision;
      else say(`a snapshot of ${event.revision} after ${position}`);
      position = event.revision;
      continue;
    }
    if (position === undefined) {
      say(`${event.kind} ${event.revision} before any snapshot`);
      position = event.revision;
      continue;
    }
    if (event.kind === "bookmark") {
      if (event.revision < position) say(`a bookmark of ${event.revision} after ${position}`);
      else position = event.revision;
      continue;
    }
    if (event.revision <= position) say(`revision ${event.revision} after ${position}`);
    if (event.previous > position) say(`a gap between ${position} and ${event.previous} before ${event.revision}`);
    told.add(event.revision);
    position = event.revision > position ? event.revision : position;
  }
  const last = position ?? -1n;
  for (const revision of committed) {
    if (revision > covered && revision <= last && !told.has(revision)) say(`revision ${revision} was never told`);
  }
  const real = new Set(committed);
  for (const revision of told) if (!real.has(revision)) say(`revision ${revision} was told and never committed`);
  return violations;
}
