import type { Finished } from "@persona-mesh/protocol";

/** Longer replies have no chart: it would have more points than any screen. */
const MAX_TOKENS = 20_000;

/** Of the drawing, in units of its own; it is as wide as the page. */
const WIDTH = 1000;
const ROW = 90;
const GAP = 30;

/** Beyond it an alpha does not go. */
const MAX_ALPHA_HUNDREDTHS = 120;

/** Entropy and projection of every token, and effective alpha with the guard's events, over the length of a reply: an SVG. */
export function heatChart(
  tokens: readonly { readonly entropy: number; readonly projection: number | undefined }[],
  { alphas, guardEvents }: Pick<Finished, "alphas" | "guardEvents">,
): string {
  if (tokens.length < 2 || tokens.length > MAX_TOKENS) return "";
  const x = (token: number) => ((token / (tokens.length - 1)) * WIDTH).toFixed(1);
  const entropies = tokens.map(({ entropy }) => entropy);
  const mostEntropy = Math.max(1, largest(entropies));
  const rows = [
    row("entropy, nats", mostEntropy.toFixed(1), "0", line(entropies.map((value, at) => [x(at), value / mostEntropy]))),
  ];
  const projections = tokens.flatMap(({ projection }, at) => (projection === undefined ? [] : [{ at, projection }]));
  if (projections.length > 1) {
    const most = Math.max(0.5, largest(projections.map(({ projection }) => Math.abs(projection))));
    const points = projections.map(({ at, projection }) => [x(at), (projection / most + 1) / 2] as const);
    const zero = `<line class="zero" x1="0" x2="${WIDTH}" y1="${ROW / 2}" y2="${ROW / 2}"/>`;
    rows.push(row("projection", `+${most.toFixed(1)}`, `−${most.toFixed(1)}`, zero + line(points)));
  }
  if (alphas.length > 0) {
    const steps = alphas.flatMap(({ fromToken, alphaHundredths }, index) => {
      const until = alphas[index + 1]?.fromToken ?? tokens.length - 1;
      const height = alphaHundredths / MAX_ALPHA_HUNDREDTHS;
      return [
        [x(fromToken), height],
        [x(until), height],
      ] as const;
    });
    const events = guardEvents.map(({ afterTokens }) => {
      const at = x(Math.min(afterTokens, tokens.length - 1));
      return `<line class="guard" x1="${at}" x2="${at}" y1="0" y2="${ROW}"/>`;
    });
    rows.push(row("effective alpha", (MAX_ALPHA_HUNDREDTHS / 100).toFixed(1), "0", events.join("") + line(steps)));
  }
  const height = rows.length * (ROW + GAP);
  const groups = rows.map(
    (content, index) => `<g transform="translate(0 ${index * (ROW + GAP) + GAP / 2})">${content}</g>`,
  );
  return `<svg viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="Figures over the length of the reply">${groups.join("")}</svg>`;
}

function row(name: string, top: string, bottom: string, content: string): string {
  const label = (y: number, text: string, anchor: "start" | "end") =>
    `<text x="${anchor === "start" ? 0 : WIDTH}" y="${y}" text-anchor="${anchor}">${text}</text>`;
  return `<rect width="${WIDTH}" height="${ROW}"/>${content}${label(-4, name, "start")}${label(-4, top, "end")}${label(ROW + 11, bottom, "end")}`;
}

/** @param points - x as it is drawn, and the height, 0 to 1 */
function line(points: readonly (readonly [x: string, height: number])[]): string {
  const drawn = points.map(([x, height]) => `${x},${((1 - (Number.isFinite(height) ? height : 0)) * ROW).toFixed(1)}`);
  return `<polyline points="${drawn.join(" ")}"/>`;
}

/** Of numbers from 0 up; 0 where there are none. */
const largest = (values: readonly number[]) => values.reduce((a, b) => Math.max(a, b), 0);
