import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { leaves, silentProgram } from "../testing/program-tree.ts";
import { persona } from "../testing/run-persona.ts";

const exec = promisify(execFile);
const hasBash = await exec("bash", ["--version"]).then(
  () => true,
  () => false,
);

describe.skipIf(!hasBash)("completion in bash", () => {
  /** What bash offers for each line; the cursor stands at its end. */
  async function offered(lines: readonly string[]): Promise<string[][]> {
    const { stdout: script } = await persona(["completion", "bash"]);
    const asks = lines.map((line) => {
      const words = line.split(" ").map((word) => `'${word}'`);
      return `COMP_WORDS=(${words.join(" ")}); COMP_CWORD=${words.length - 1}; COMPREPLY=(); _persona; echo "\${COMPREPLY[*]}"`;
    });
    const { stdout } = await exec("bash", ["--norc", "-c", `${script}\n${asks.join("\n")}`], { cwd: "/" });
    return stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" ").filter((word) => word !== ""));
  }

  it("knows every command and every option of the program", async () => {
    const root = silentProgram();
    const all = leaves(root);
    const answers = await offered(all.map(({ words }) => `persona ${words.join(" ")} --`));
    for (const [index, { words, command }] of all.entries()) {
      const options = [...command.options, ...root.options].map(({ long }) => long);
      expect(answers[index], words.join(" ")).toEqual(expect.arrayContaining([...options, "--help"]));
    }
    const commands = await offered(all.map(({ words }) => `persona ${words.join(" ")}`));
    for (const [index, { words }] of all.entries()) expect(commands[index]).toContain(words.at(-1));
  });

  it("follows the words, past options and their values", async () => {
    const [verbs, nested, past, choices, tenant] = await offered([
      "persona alias ",
      "persona approval break-glass ",
      "persona --tenant alias --json alias ro",
      "persona vector export --format ",
      "persona tenant u",
    ]);
    expect(verbs?.slice(0, 3)).toEqual(["set", "rollback", "show"]);
    expect(nested).toContain("review");
    expect(past).toEqual(["rollback"]);
    expect(choices).toEqual(["gguf", "safetensors", "native"]);
    expect(tenant).toEqual(["update", "undelete"]);
  });
});

it("is there for zsh and fish, with every command", async () => {
  expect((await persona(["completion", "zsh"])).stdout).toMatch(/^#compdef persona\n/);
  const { stdout } = await persona(["completion", "fish"]);
  for (const { words } of leaves(silentProgram())) {
    expect(stdout).toMatch(new RegExp(`^complete -c persona -f.* -a ${words.at(-1)} -d `, "m"));
  }
  expect((await persona(["completion", "tcsh"])).code).toBe(2);
});
