/** A line of a panel. */
export interface Line {
  readonly name: string;
  readonly colour: string;
  readonly dashed: boolean;
  /** In the order of x; undefined leaves a gap. */
  readonly points: readonly (readonly [x: number, y: number | undefined])[];
}

export interface Panel {
  readonly title: string;
  /** Top of the axis, which begins at 0. */
  readonly most: number;
  readonly lines: readonly Line[];
}

const PANEL = { width: 300, height: 190, left: 38, right: 12, top: 30, bottom: 34 };
const COLUMNS = 3;
const LEGEND_HEIGHT = 26;
const TICKS = 4;

/** Panels side by side over the same x axis from 0, with one legend, as a document of its own. */
export function svgPlot(title: string, x: { readonly title: string; readonly most: number }, panels: readonly Panel[]) {
  const rows = Math.ceil(panels.length / COLUMNS);
  const width = COLUMNS * PANEL.width;
  const height = rows * PANEL.height + LEGEND_HEIGHT + 30;
  const drawn = panels.map((panel, index) => {
    const at = `translate(${(index % COLUMNS) * PANEL.width} ${30 + Math.floor(index / COLUMNS) * PANEL.height})`;
    return `<g transform="${at}">${panelOf(panel, x)}</g>`;
  });
  const legend = (panels[0]?.lines ?? []).map(({ name, colour, dashed }, index) => {
    const from = 12 + index * 148;
    return (
      `<line x1="${from}" x2="${from + 24}" y1="0" y2="0" ${stroke(colour, dashed)}/>` +
      `<text x="${from + 30}" y="4">${escaped(name)}</text>`
    );
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11" fill="#333">
<title>${escaped(title)}</title>
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="12" y="18" font-size="13" font-weight="bold">${escaped(title)}</text>
${drawn.join("\n")}
<g transform="translate(0 ${height - 14})">${legend.join("")}</g>
</svg>
`;
}

function panelOf({ title, most, lines }: Panel, x: { readonly title: string; readonly most: number }): string {
  const { width, height, left, right, top, bottom } = PANEL;
  const toX = (value: number) => left + (value / x.most) * (width - left - right);
  const toY = (value: number) => height - bottom - (Math.min(value, most) / most) * (height - top - bottom);
  const ticks = Array.from({ length: TICKS + 1 }, (_, i) => i / TICKS);
  const grid = ticks.map((share) => {
    const [across, up] = [share * x.most, share * most];
    return (
      `<line x1="${toX(0)}" x2="${toX(x.most)}" y1="${toY(up)}" y2="${toY(up)}" stroke="#e4e4e4"/>` +
      `<text x="${left - 5}" y="${toY(up) + 4}" text-anchor="end">${number(up)}</text>` +
      `<text x="${toX(across)}" y="${height - bottom + 14}" text-anchor="middle">${number(across)}</text>`
    );
  });
  const drawn = lines.map(({ points, colour, dashed }) => {
    const there = points.flatMap(([at, value]) =>
      value === undefined ? [] : `${round(toX(at))},${round(toY(value))}`,
    );
    return `<polyline points="${there.join(" ")}" fill="none" ${stroke(colour, dashed)}/>`;
  });
  const axis = `<text x="${(left + width - right) / 2}" y="${height - 6}" text-anchor="middle">${escaped(x.title)}</text>`;
  return `<text x="${left}" y="${top - 10}" font-weight="bold">${escaped(title)}</text>${grid.join("")}${drawn.join("")}${axis}`;
}

function stroke(colour: string, dashed: boolean): string {
  return `stroke="${colour}" stroke-width="1.8"${dashed ? ' stroke-dasharray="4 3"' : ""}`;
}

function number(value: number): string {
  return String(Number(value.toFixed(2)));
}

function round(value: number): string {
  return value.toFixed(1);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
