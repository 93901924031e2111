import { spawn } from "node:child_process";
import { once } from "node:events";
import { create } from "@bufbuild/protobuf";
import { GenerateRequestSchema } from "@persona-mesh/protocol";
import { expect, test } from "vitest";
import { captureLogs } from "./testing/test-server.ts";

const PROMPT = "My order 4711 never came and I am furious";

/** What of a value ends up in the log. */
function logged(fields: Record<string, unknown>): { text: string; line: Record<string, unknown> } {
  const { logs, log } = captureLogs();
  log.info(fields, "event");
  return { text: JSON.stringify(logs[0]), line: logs[0] ?? {} };
}

test("numbers, ids and names are logged as they are", () => {
  const fields = {
    alpha: 0.35,
    layers: [3, 4],
    entropy: 2.1,
    persona: "tenants/acme/personas/cheerful",
    tokens: 12,
    big: 5n,
  };
  expect(logged(fields).line).toMatchObject({ ...fields, big: "5", level: "info", name: "test", msg: "event" });
});

test.each<[string, Record<string, unknown>]>([
  ["under a key for text", { prompt: PROMPT }],
  ["deep under a key for text", { request: { parts: [{ content: PROMPT }] } }],
  ["as chat messages", { messages: [{ role: "user", words: PROMPT }] }],
  [
    "as a protobuf message",
    { req: create(GenerateRequestSchema, { prompt: { input: { case: "text", value: PROMPT } } }) },
  ],
  ["as a protobuf message in a list", { all: [create(GenerateRequestSchema, { stop: [PROMPT] })] }],
  ["as bytes", { raw: Buffer.from(PROMPT) }],
  ["as a long string under any key", { note: `${PROMPT} `.repeat(10) }],
  ["deeper than anything we log", { a: { b: { c: { d: { e: PROMPT } } } } }],
])("a prompt is not logged %s", (_, fields) => {
  expect(logged(fields).text).not.toContain("4711");
});

test("credentials are not logged", () => {
  const { text } = logged({ headers: { authorization: "Bearer abc.def" }, token: "abc.def", jwk: { d: "abc.def" } });
  expect(text).not.toContain("abc.def");
});

test("what a child logger carries is cleaned too", () => {
  const { logs, log } = captureLogs();
  log.child({ prompt: PROMPT, tenant: "acme" }).info("event");
  expect(logs[0]).toMatchObject({ tenant: "acme", prompt: `[text, ${PROMPT.length} characters]` });
});

test("an error keeps its message, its stack and its cause", () => {
  const { line } = logged({ err: new Error("step failed", { cause: new Error("out of memory") }) });
  expect(line["err"]).toMatchObject({ type: "Error", message: expect.stringContaining("step failed") });
  expect(JSON.stringify(line["err"])).toContain("out of memory");
  expect(JSON.stringify(line["err"])).toContain("log.test.ts");
});

test("a value that refers to itself ends", () => {
  const loop: Record<string, unknown> = { id: 1 };
  loop["self"] = loop;
  expect(logged({ loop }).text).toContain("[nested]");
});

test("a service whose log has lost its reader goes on, and ends when it wants to", async () => {
  const module = new URL("./log.ts", import.meta.url).href;
  const program = `
    const { createLogger } = await import(${JSON.stringify(module)});
    const log = createLogger("orphan", "info");
    log.info("first");
    process.stdin.once("data", () => {
      for (let i = 0; i < 100; i++) log.info({ i }, "nobody reads this");
      process.exit(7);
    });
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const [line] = await once(child.stdout, "data");
  expect(JSON.parse(String(line))).toMatchObject({ name: "orphan", msg: "first" });
  child.stdout.destroy();
  child.stdin.write("go on\n");
  expect(await ended).toEqual([7, null]);
});
