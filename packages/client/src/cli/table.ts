import { displayWidth, padEnd, padStart } from "./text-layout.ts";

/** A column of a table: its heading, and how a row fills it. */
export interface TableColumn<Row> {
  heading: string;
  cell: (row: Row) => string;
  /** Numbers line up on the right. @default "left" */
  align?: "left" | "right";
}

/**
 * A plain table: headings, one line per row, two spaces between columns. No borders, so that `awk` and eyes both read it.
 *
 * @returns lines without line breaks; headings alone where there are no rows
 */
export function table<Row>(columns: readonly TableColumn<Row>[], rows: readonly Row[]): string[] {
  const cells = rows.map((row) => columns.map((column) => column.cell(row).replace(/\s+/g, " ")));
  const lines = [columns.map((column) => column.heading), ...cells];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => displayWidth(line[index] ?? ""))));
  return lines.map((line) =>
    line
      .map((cell, index) => {
        const width = widths[index] ?? 0;
        return columns[index]?.align === "right" ? padStart(cell, width) : padEnd(cell, width);
      })
      .join("  ")
      .trimEnd(),
  );
}

/** Names and values, one pair a line, the values in one column. */
export function fieldList(fields: readonly (readonly [name: string, value: string])[]): string[] {
  const width = Math.max(...fields.map(([name]) => displayWidth(name)));
  return fields.map(([name, value]) => `${padEnd(name, width)}  ${value}`);
}
