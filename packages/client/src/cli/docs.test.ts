import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { LOCAL_REASONS } from "../local-error.ts";
import { leaves, silentProgram } from "../testing/program-tree.ts";
import { ExitCode } from "./exit-code.ts";
import { USAGE_REASONS } from "./failure.ts";

const docs = readFileSync(new URL("../../../../docs/cli.md", import.meta.url), "utf8");

describe("docs/cli.md", () => {
  it("has a section for every command", () => {
    for (const { words } of leaves(silentProgram())) expect(docs).toContain(`\n## ${words.join(" ")}\n`);
  });

  it("names every option of every command", () => {
    const root = silentProgram();
    for (const { words, command } of leaves(root)) {
      const section = docs.split(`\n## ${words.join(" ")}\n`)[1]?.split("\n## ")[0] ?? "";
      // compare shares the sampling options of generate and says so.
      const own = words[0] === "compare" ? [] : command.options;
      for (const { long } of own) expect(section, `${words.join(" ")} ${long}`).toContain(long);
    }
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
