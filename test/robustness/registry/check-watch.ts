import type { Watched } from "./history.ts";

/**
 * What a watcher should not have seen: revisions out of order or twice, gaps, and changes that were committed and not
 * told.
 *
 * @param committed - every revision that changed something for the watched model, ascending
 */
export function checkWatch({ watcher, events }: Watched, committed: readonly bigint[]): string[] {
  const violations: string[] = [];
  const say = (what: string) => violations.push(`${watcher}: ${what}`);
  let position: bigint | undefined;
  const told = new Set<bigint>();
  /** Up to here a snapshot has told everything. */
  const covered: [after: bigint, upTo: bigint][] = [];
  for (const event of events) {
    if (event.kind === "snapshot") {
      if (position !== undefined && event.revision < position) say(`a snapshot of ${event.revision} after ${position}`);
      covered.push([-1n, event.revision]);
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
    if (revision > last || told.has(revision)) continue;
    if (!covered.some(([after, upTo]) => revision > after && revision <= upTo))
      say(`revision ${revision} was never told`);
  }
  const real = new Set(committed);
  for (const revision of told) if (!real.has(revision)) say(`revision ${revision} was told and never committed`);
  return violations;
}
