import { atMost, context, type Figure } from "../figure.ts";
import type { SweepPoint, SweptSeries } from "./sweep.ts";

/** Percent of replies in which the guard may find something before its acting counts as needed. */
const CALM_PERCENT = 2;

/** Of a hundred replies in the tone. */
const TONE_GOAL = 2;

const MEASURES: readonly (readonly [string, string, (point: SweepPoint) => number | undefined])[] = [
  ["coherence", "", ({ coherence }) => coherence],
  ["coherence of the last 64 tokens", "", ({ lateCoherence }) => lateCoherence],
  ["entropy ratio", "", ({ entropyRatio }) => entropyRatio],
  ["KL", "nats", ({ kl }) => kl],
  ["repetition", "", ({ repetition }) => repetition],
  ["share in the tone", "", ({ toneShare }) => toneShare],
];

/** All that the sweep found, and whether the tone is kept where the guard has no reason to act. */
export function sweepFigures(all: readonly SweptSeries[]): Figure[] {
  return all.flatMap((swept) => {
    const rows = swept.watched.flatMap((point, index) => {
      const at = `${swept.name}, alpha ${point.alpha.toFixed(1)}`;
      const guarded = swept.guarded[index];
      const pairs = MEASURES.flatMap(([what, unit, of]) => [
        context(`${at}: ${what} without the guard`, of(point) ?? Number.NaN, unit),
        context(`${at}: ${what} with it`, (guarded && of(guarded)) ?? Number.NaN, unit),
      ]);
      return [context(`${at}: replies that trip`, 100 * point.trips, "%"), ...pairs];
    });
    return [...(swept.isTone ? [toneKept(swept)] : []), ...rows];
  });
}

/** Where the guard finds next to nothing, the persona has to be what it is without one. */
function toneKept({ name, watched, guarded }: SweptSeries): Figure {
  const lost = watched.flatMap(({ trips, toneShare }, index) =>
    100 * trips <= CALM_PERCENT ? [100 * (toneShare - (guarded[index]?.toneShare ?? 0))] : [],
  );
  const what = `${name}: replies in the tone that the guard costs where it is not needed, most`;
  return atMost(what, Math.max(0, ...lost), "of 100", TONE_GOAL);
}
