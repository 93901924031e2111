import { type Panel, svgPlot } from "./svg-plot.ts";
import { MOST_ALPHA, type SweepPoint, type SweptSeries } from "./sweep.ts";

/** Apart for people who see few colours too. */
const COLOURS = ["#0072b2", "#d55e00", "#7a7a7a"];

/** What alpha does, with and without the guard. */
export function sweepPlot(series: readonly SweptSeries[]): string {
  const panel = (title: string, most: number, of: (point: SweepPoint) => number | undefined): Panel => ({
    title,
    most,
    lines: series.flatMap(({ name, guarded, watched }, index) =>
      [
        { points: guarded, name: `${name}, guarded`, dashed: false },
        { points: watched, name: `${name}, not`, dashed: true },
      ].map(({ points, ...line }) => ({
        ...line,
        colour: COLOURS[index % COLOURS.length] as string,
        points: points.map((point) => [point.alpha, of(point)] as const),
      })),
    ),
  });
  return svgPlot(
    "Replies over alpha, with the guard and without it (starter model)",
    { title: "alpha", most: MOST_ALPHA },
    [
      panel("coherence of the reply", 1, ({ coherence }) => coherence),
      panel("coherence of its last 64 tokens", 1, ({ lateCoherence }) => lateCoherence),
      panel("entropy over the baseline's", 6, ({ entropyRatio }) => entropyRatio),
      panel("KL to the unsteered twin, nats", 8, ({ kl }) => kl),
      panel("repetition", 1, ({ repetition }) => repetition),
      panel("share in the tone", 1, ({ toneShare }) => toneShare),
    ],
  );
}
