import { readFileSync } from "node:fs";

const PAGE = new URL("../../../../docs/telemetry.md", import.meta.url);

/** Names of the figures in the tables of docs/telemetry.md, sorted. @param headings - of the tables */
export function documentedFigures(...headings: readonly string[]): string[] {
  const page = readFileSync(PAGE, "utf8");
  const names = headings.flatMap((heading) => {
    const section = page.split(`\n### ${heading}\n`)[1]?.split(/\n##/)[0];
    if (section === undefined) throw new Error(`docs/telemetry.md has no heading "${heading}"`);
    const rows = section.split("\n").filter((line) => line.startsWith("| `"));
    return rows.flatMap((row) => [...(row.split(" | ")[0] as string).matchAll(/`([a-z_]+)`/g)].map(([, name]) => name));
  });
  return (names as string[]).toSorted();
}

/** Names of the figures that a service shows, sorted. @param text - of `GET /metrics` */
export function shownFigures(text: string): string[] {
  return [...text.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name as string).toSorted();
}
