/** One published number. */
export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What to reach, in words; undefined for context. */
  readonly goal?: string;
  readonly met?: boolean;
}

export function atMost(name: string, value: number, unit: string, goal: number): Figure {
  return { name, value, unit, goal: `≤ ${goal}`, met: value <= goal };
}

export function atLeast(name: string, value: number, unit: string, goal: number): Figure {
  return { name, value, unit, goal: `≥ ${goal}`, met: value >= goal };
}

export function context(name: string, value: number, unit: string): Figure {
  return { name, value, unit };
}

/** The figures as people read them. */
export function figureTable(figures: readonly Figure[]): string {
  const rows = figures.map(({ name, value, unit, goal = "", met }) => [
    name,
    formatValue(value),
    unit,
    goal,
    met === undefined ? "" : met ? "met" : "NOT MET",
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  return rows
    .map((row) =>
      row.map((cell, i) => (i === 1 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join("  "),
    )
    .map((line) => `${line.trimEnd()}\n`)
    .join("");
}

function formatValue(value: number): string {
  const magnitude = Math.abs(value);
  return magnitude >= 1000 ? value.toFixed(0) : magnitude >= 10 ? value.toFixed(1) : value.toFixed(3);
}
