import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { leaves, silentProgram } from "../testing/program-tree.ts";
import { persona } from "../testing/run-persona.ts";
import { InterruptedError } from "./io.ts";

describe("help", () => {
  it("is there for every command, with examples that name it", async () => {
    const commands = leaves(silentProgram()).map(({ words }) => words);
    const nouns = Object.groupBy(commands, ([noun]) => noun ?? "");
    const verbs = Object.entries(nouns).map(([noun, all = []]) => [noun, all.map((words) => words.slice(1).join(" "))]);
    expect(Object.fromEntries(verbs)).toEqual({
      generate: [""],
      compare: [""],
      personas: [""],
      model: [
        ...["import", "list", "show", "verify", "remove", "served", "baseline"],
        ...["register", "registered", "amend", "unregister", "reregister"],
      ],
      vector: ["extract", "create", "show", "list", "update", "delete", "undelete", "import", "export"],
      version: ["publish", "show", "list", "content", "evaluate", "diff", "revoke"],
      alias: ["set", "rollback", "show", "list", "history", "delete"],
      persona: [
        ...["create", "update", "show", "list", "revisions", "diff"],
        ...["activate", "deactivate", "history", "delete", "undelete"],
      ],
      approval: ["approve", "reject", "list", "revoke", "break-glass list", "break-glass review"],
      tenant: ["create", "show", "list", "update", "delete", "undelete"],
      distribution: ["show"],
      audit: ["list", "export", "verify"],
      token: ["dev"],
      completion: [""],
    });
    for (const words of commands) {
      const { code, stdout, stderr } = await persona([...words, "--help"]);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toContain(`Usage: persona ${words.join(" ")}`);
      expect(stdout).toMatch(new RegExp(`Examples:\\n.*persona ${words.join(" ")}`, "s"));
      expect(stdout).toContain("--address <host:port>");
    }
  });

  it("never shows a token", async () => {
    const { stdout } = await persona(["generate", "--help"], { env: { PERSONA_TOKEN: "secret-token" } });
    expect(stdout).toContain("PERSONA_TOKEN");
    expect(stdout).not.toContain("secret-token");
  });

  it.each([[[]], [["model"]], [["vector"]], [["token"]], [["approval", "break-glass"]]])(
    "is shown on stderr, with 2, for %j alone",
    async (argv) => {
      const { code, stdout, stderr } = await persona(argv);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).toMatch(/^Usage: persona/);
    },
  );

  it("prints the version", async () => {
    expect(await persona(["--version"])).toEqual({ code: 0, stdout: "0.1.0\n", stderr: "" });
  });
});

describe("a wrong command line", () => {
  it.each([
    [["genrate", "hi"], "UNKNOWN_COMMAND", "unknown command 'genrate' (Did you mean generate?)"],
    [["model", "imprt"], "UNKNOWN_COMMAND", "unknown command 'imprt' (Did you mean import?)"],
    [["generate", "hi", "--adress", "x"], "UNKNOWN_OPTION", "unknown option '--adress' (Did you mean --address?)"],
    [["generate", "hi", "--temprature=1"], "UNKNOWN_OPTION", "unknown option '--temprature=1'"],
    [["generate", "hi", "you"], "EXCESS_ARGUMENTS", "too many arguments for 'generate'. Expected 1 argument"],
    [["generate", "hi", "--seed", "x"], "INVALID_ARGUMENT", "argument 'x' is invalid. It must be a whole number"],
    [["generate", "hi", "--seed"], "OPTION_MISSING_ARGUMENT", "option '--seed <n>' argument missing"],
    [["generate", "hi", "--persona", "a", "--active"], "CONFLICTING_OPTION", "cannot be used with option '--active'"],
    [["generate", "hi", "--unsteered", "--gain", "1"], "CONFLICTING_OPTION", "cannot be used with option '--gain"],
    [["generate", "hi", "--follow", "--token", "t"], "OPTIONS_CONFLICT", "--follow needs --active"],
    [["generate", "hi", "--revision", "3", "--token", "t"], "OPTIONS_CONFLICT", "--revision needs --persona"],
    [["generate", "hi", "--active", "--revision", "3"], "CONFLICTING_OPTION", "cannot be used with option '--active'"],
    [["generate", "hi", "--n", "17"], "INVALID_ARGUMENT", "whole number from 1 to 16"],
    [["generate", "hi", "--logit-bias", "7"], "INVALID_ARGUMENT", "such as 1234=-5"],
    [["generate", "hi", "--repetition-penalty", "0"], "INVALID_ARGUMENT", "from 0.001 to 10"],
    [["generate", "hi", "--token", "a", "--token-file", "b"], "OPTIONS_CONFLICT", "exclude each other"],
    [["generate", "hi", "--tls-cert", "a"], "OPTIONS_CONFLICT", "--tls-cert and --tls-key go together"],
    [["generate", "hi", "--token", "opaque", "--persona", "p"], "TENANT_UNKNOWN", "write tenants/TENANT/personas/p"],
    [["generate", ""], "PROMPT_MISSING", "the prompt is empty"],
    [["generate", "-"], "PROMPT_MISSING", "the prompt is empty"],
    [["compare", "hi"], "OPTIONS_CONFLICT", "compare needs a persona"],
    [["vector", "extract"], "MISSING_MANDATORY_OPTION_VALUE", "required option '--pairs <file>' not specified"],
    [["model", "show"], "MISSING_ARGUMENT", "missing required argument 'model'"],
    [
      ["model", "import", "dir", "--out", "a", "--name", "b"],
      "OPTIONS_CONFLICT",
      "--out and --name exclude each other",
    ],
    [["model", "import", "dir", "--name", "../b"], "MODEL_NAME_INVALID", '"../b" is no name of a model'],
    [["model", "import", "/"], "MODEL_NAME_INVALID", "gives no name; give --name or --out"],
    [["model", "import", "dir", "--precision", "float16"], "INVALID_ARGUMENT", "float32, int8, int4, bfloat16"],
    [["model", "import", "dir", "--block", "32"], "OPTIONS_CONFLICT", "--block is a choice within --precision int8"],
    [["model", "import", "dir", "--head-precision", "int8"], "OPTIONS_CONFLICT", "--head-precision is a choice within"],
    [["model", "import", "dir", "--context", "0"], "INVALID_ARGUMENT", "whole number from 1 to"],
    [["token", "dev", "--role", "viewer", "--tenant", "Acme Inc"], "TENANT_INVALID", '"Acme Inc" is no tenant'],
    [["token", "dev", "--role", "root"], "INVALID_ARGUMENT", "viewer, operator, approver, admin, service"],
    [["vector", "extract", "--method", "MAGIC"], "INVALID_ARGUMENT", "MEAN_DIFF, PCA_CENTER, PCA_DIFF"],
  ])("ends with 2 and says what is wrong: %j", async (argv, reason, message) => {
    const { code, stdout, stderr } = await persona(argv);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr.split("\n")).toHaveLength(2);
    expect(stderr).toContain(`USAGE [${reason}] `);
    expect(stderr).toContain(message);
  });

  it("is told as JSON where asked, even where parsing failed", async () => {
    const { stderr } = await persona(["generate", "--adress", "--json"]);
    expect(JSON.parse(stderr)).toEqual({
      error: {
        code: "USAGE",
        reason: "UNKNOWN_OPTION",
        message: "unknown option '--adress' (Did you mean --address?)",
        exitCode: 2,
      },
    });
  });

  it("asks for a prompt where one would have to be typed", async () => {
    const { code, stderr } = await persona(["generate"], { columns: 80, env: { NO_COLOR: "1" } });
    expect([code, stderr]).toEqual([2, expect.stringContaining("USAGE [PROMPT_MISSING] no prompt: give it")]);
  });

  it("refuses a prompt on the standard input that is no text, or too long", async () => {
    const binary = await persona(["generate", "-"], { stdin: Uint8Array.of(0xc3, 0x28) });
    expect([binary.code, binary.stderr]).toEqual([2, expect.stringContaining("PROMPT_NOT_UTF8")]);
    const long = await persona(["generate", "-"], { stdin: new Uint8Array((1 << 20) + 1).fill(0x61) });
    expect([long.code, long.stderr]).toEqual([2, expect.stringContaining("PROMPT_TOO_LONG")]);
  });

  it("stops waiting for a prompt on an interrupt", async () => {
    const interrupt = new AbortController();
    const endless = new Readable({ read: () => setImmediate(() => interrupt.abort(new InterruptedError("SIGINT"))) });
    endless.push("an unfinished prom");
    const { code, stdout } = await persona(["generate", "-"], { stdin: endless, interrupt });
    expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
    expect(endless.destroyed).toBe(true);
  });

  it("is red on a terminal only, and never with --no-color or NO_COLOR", async () => {
    const red = "\u001b[31mUSAGE\u001b[39m";
    expect((await persona(["generate", ""], { columns: 80 })).stderr).toContain(red);
    expect((await persona(["generate", "", "--no-color"], { columns: 80 })).stderr).not.toContain("\u001b");
    expect((await persona(["generate", ""], { columns: 80, env: { NO_COLOR: "1" } })).stderr).not.toContain("\u001b");
    expect((await persona(["generate", ""])).stderr).not.toContain("\u001b");
  });
});
