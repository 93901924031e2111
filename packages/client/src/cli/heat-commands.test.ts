import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { type PersonaRunOptions, persona } from "../testing/run-persona.ts";
import { replyOf, type ScriptedWorker, startScriptedWorker } from "../testing/scripted-worker.ts";

let worker: ScriptedWorker;
let folder: string;

beforeAll(async () => {
  worker = await startScriptedWorker({
    async *generate(request) {
      const selector = request.persona?.selector;
      const name = selector?.case === "name" ? selector.value : undefined;
      const [started, finished] = replyOf([], name);
      const piece = (text: string, projection: number) => {
        const token = { id: 0, logProb: -0.5, entropy: 1.25, projections: name === undefined ? [] : [projection] };
        return { event: { case: "tokens" as const, value: { text, tokens: [token] } } };
      };
      yield* [started ?? {}, piece("Hooray! ", 0.3), piece("Late.", -0.2), finished ?? {}];
    },
  });
});
afterAll(() => worker[Symbol.asyncDispose]());
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-heat-"));
  return () => rm(folder, { recursive: true });
});

const ORANGE = "\u001b[48;5;209;38;5;16mHooray! \u001b[49;39m";
const BLUE = "\u001b[48;5;111;38;5;16mLate.\u001b[49;39m";

const generate = (words: string, options: PersonaRunOptions = {}) =>
  persona(["--address", worker.address, "--data-dir", worker.dataDir, "generate", "Hi", ...words.split(" ")], {
    cwd: folder,
    ...options,
  });

it("--heat colours the text on a terminal and says what the colours mean", async () => {
  const { code, stdout, stderr } = await generate("--persona cheerful --heat", { columns: 80 });
  expect([code, stdout]).toEqual([0, `${ORANGE}${BLUE}\n`]);
  expect(stderr).toContain("at layer 3");
  expect(stderr).toContain("+0.4");
});

it.each<[string, string, PersonaRunOptions]>([
  ["in a pipe", "--persona cheerful --heat", {}],
  ["with NO_COLOR", "--persona cheerful --heat", { columns: 80, env: { NO_COLOR: "1" } }],
  ["with --no-color", "--persona cheerful --heat --no-color", { columns: 80 }],
])("--heat leaves the text as it is %s", async (_, words, options) => {
  const { code, stdout, stderr } = await generate(words, options);
  expect([code, stdout]).toEqual([0, "Hooray! Late.\n"]);
  expect(stderr).toContain("no colours here; --html FILE writes a page with them");
});

it("an unsteered reply has no colours", async () => {
  const { stdout, stderr } = await generate("--unsteered --heat", { columns: 80 });
  expect(stdout).toBe("Hooray! Late.\n");
  expect(stderr).toContain("no persona: nothing to colour");
});

it("--html writes a page, once, unless it is to be replaced; text and --json are as without it", async () => {
  const { code, stdout } = await generate("--persona cheerful --html reply.html");
  expect([code, stdout]).toEqual([0, "Hooray! Late.\n"]);
  const page = await readFile(join(folder, "reply.html"), "utf8");
  expect(page).toMatch(/class="along3" [^>]*>Hooray! </);
  expect(page).toContain(`<p class="prompt">Hi</p>`);
  const again = await generate("--persona cheerful --html reply.html --json");
  expect([again.code, again.stdout]).toEqual([5, ""]);
  expect(JSON.parse(again.stderr)).toMatchObject({ error: { reason: "FILE_EXISTS" } });
  const replaced = await generate("--persona cheerful --html reply.html --overwrite --json");
  expect(JSON.parse(replaced.stdout)).toMatchObject({ text: "Hooray! Late." });
  expect(await readdir(folder)).toEqual(["reply.html"]);
});

it.each([
  ["--heat --json", "--json has no colours"],
  ["--heat-layer 3", "--heat-layer needs --heat or --html"],
  ["--overwrite", "--overwrite needs --html"],
  ["--heat --heat-layer 2", "does not steer layer 2; it steers 3"],
])("%s is refused", async (words, message) => {
  const { code, stdout, stderr } = await generate(`--persona cheerful ${words}`);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(message);
});

it("a call that fails leaves no page", async () => {
  expect((await generate("--persona cheerful --heat-layer 2 --html reply.html")).code).toBe(2);
  expect(await readdir(folder)).toEqual([]);
});
