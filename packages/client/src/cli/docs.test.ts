import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { LOCAL_REASONS } from "../local-error.ts";
import { leaves, silentProgram } from "../testing/program-tree.ts";
import { ExitCode } from "./exit-code.ts";
import { USAGE_REASONS } from "./failure.ts";

const docs = readFileSync(new URL("../../../../docs/cli.md", import.meta.url), "utf8");

/** Options that mean the same wherever they are: told once. */
const SHARED = ["--as", "--role", "--dry-run", "--reason", "--etag", "--yes", "--break-glass", "--wait"];

/** The text below a heading. */
const sectionOf = (heading: string) => docs.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "";

describe("docs/cli.md", () => {
  it("has a section for every command", () => {
    for (const { words } of leaves(silentProgram())) expect(docs).toContain(`\n## ${words.join(" ")}\n`);
  });

  it("names every option of every command", () => {
    const root = silentProgram();
    for (const { words, command } of leaves(root)) {
      const onRegistry = command.options.some(({ long }) => long === "--as");
      const section = sectionOf(words.join(" ")) + (onRegistry ? sectionOf("Commands of the registry") : "");
      // compare shares the sampling options of generate and says so.
      const own = words[0] === "compare" ? [] : command.options;
      for (const { long } of own) expect(section, `${words.join(" ")} ${long}`).toContain(long);
    }
    for (const option of SHARED) expect(sectionOf("Commands of the registry")).toContain(`| \`${option}`);
    for (const { long } of root.options) if (long !== "--version") expect(docs).toContain(`\`${long}`);
  });

  it("lists every exit code", () => {
    for (const code of Object.values(ExitCode)) expect(docs).toContain(`\n| ${code} | `);
  });

  it("lists every reason of the command's own", () => {
    for (const reason of [...USAGE_REASONS, ...Object.keys(LOCAL_REASONS)])
      expect(docs).toContain(`\n| \`${reason}\` | `);
  });
});
