import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { fileURLToPath } from "node:url";
import { BLOCK_SIZES, PRECISION_NAMES, VOCABULARY_FORMATS } from "@persona-mesh/model/graph";
import { CHECK_NAMES } from "@persona-mesh/model/verify";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { persona } from "../testing/run-persona.ts";
import { BLOCKS, PRECISIONS, VOCABULARY_PRECISIONS } from "./commands/model-import.ts";
import { InterruptedError } from "./io.ts";

const STARTER = fileURLToPath(new URL("../../../../models/starter", import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-model-"));
});
afterEach(() => rm(folder, { recursive: true }));

const run = (argv: string[], { env = {}, ...options }: Parameters<typeof persona>[1] = {}) =>
  persona(["model", ...argv], { cwd: folder, env: { PERSONA_MODELS: join(folder, "models"), ...env }, ...options });
const importStarter = (...more: string[]) => run(["import", STARTER, "--out", "package", ...more]);

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  await writeFile(path, bytes);
}

describe("model import", () => {
  it("makes a package, and finds it unchanged the next time", async () => {
    const first = JSON.parse((await importStarter("--json")).stdout);
    expect(first).toMatchObject({ outcome: "created", directory: join(folder, "package"), precision: "float32" });
    expect(first.modelChecksum).toMatch(/^[0-9a-f]{64}$/);
    const { code, stdout, stderr } = await importStarter();
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^unchanged .*package in .*, .*B\/s of weights\n$/)]);
    expect(stdout).toContain(first.modelChecksum);
    expect(await readdir(folder)).toEqual(["package"]);
  });

  it("goes into the models directory by name, with the precision behind it", async () => {
    const made = async (...more: string[]) => JSON.parse((await run(["import", STARTER, "--json", ...more])).stdout);
    expect(await made()).toMatchObject({ outcome: "created", directory: join(folder, "models/starter") });
    const int8 = await made("--precision", "int8", "--block", "128", "--head-precision", "float32", "--context", "64");
    expect(int8).toMatchObject({ directory: join(folder, "models/starter-int8"), precision: "int8" });
    expect(await made("--name", "desk")).toMatchObject({ directory: join(folder, "models/desk") });
    const shown = await run(["show", "starter-int8", "--no-verify"]);
    expect(shown.stdout).toMatch(
      /precision +int8: projections 8 bits in blocks of 128, embedding 8 bits in blocks of 128, head float32\n/,
    );
    expect(shown.stdout).toMatch(/context +64 tokens, /);
    // A directory that is here is meant before a model of that name.
    await mkdir(join(folder, "starter"));
    expect((await run(["show", "starter"])).stderr).toContain("[MODEL_PACKAGE_NOT_FOUND]");
  });

  it("offers what the model package can do", () => {
    expect(PRECISIONS).toEqual(PRECISION_NAMES);
    expect(BLOCKS.map(Number)).toEqual(BLOCK_SIZES);
    expect(VOCABULARY_PRECISIONS).toEqual(VOCABULARY_FORMATS);
  });

  it("replaces another package only with --overwrite", async () => {
    await importStarter();
    const manifest = join(folder, "package", "manifest.json");
    await writeFile(manifest, (await readFile(manifest, "utf8")).replace('"source": "starter"', '"source": 1'));
    const refused = await importStarter();
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining("[MODEL_PACKAGE_EXISTS]")]);
    expect(JSON.parse((await importStarter("--overwrite", "--json")).stdout)).toMatchObject({ outcome: "replaced" });
    expect((await run(["show", "package"])).code).toBe(0);
  });

  it("never replaces what is no package", async () => {
    await writeFile(join(folder, "package"), "mine");
    const refused = await importStarter("--overwrite");
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining("[MODEL_PACKAGE_EXISTS]")]);
    expect(await readFile(join(folder, "package"), "utf8")).toBe("mine");
  });

  it("shows how far it is on a terminal, and leaves nothing behind when interrupted", async () => {
    const { code, stderr } = await run(["import", STARTER, "--out", "package"], {
      columns: 80,
      interruptOn: (written) => written.includes("converting"),
    });
    expect(code).toBe(130);
    expect(stderr).toMatch(/converting \d+(\.\d+)? [kM]?B of \d+(\.\d+)? MB/);
    expect(await readdir(folder)).toEqual([]);
  });

  it("says what a checkpoint lacks", async () => {
    const { code, stderr } = await run(["import", ".", "--out", "package"]);
    expect([code, stderr]).toEqual([4, expect.stringContaining("NOT_FOUND [CHECKPOINT_NOT_FOUND]")]);
    await copyFile(join(STARTER, "tokenizer.json"), join(folder, "config.json"));
    const wrong = await run(["import", ".", "--out", "package"]);
    expect([wrong.code, wrong.stderr]).toEqual([expect.any(Number), expect.stringMatching(/ \[CHECKPOINT_[A-Z_]+\] /)]);
    expect(wrong.code).toBeGreaterThan(3);
  });
});

describe("model show", () => {
  it("shows the package, and 5 with the file's name when a byte of it changed", async () => {
    await importStarter();
    const whole = await run(["show", "package"]);
    expect(whole.stdout).toMatch(/^files +agree with the manifest\n/m);
    expect(whole.stdout).toMatch(/^parameters +2\.21M\n/m);
    await flip(join(folder, "package", "weights.bin"), 5000);
    const broken = await run(["show", "package"]);
    expect([broken.code, broken.stderr]).toEqual([
      5,
      expect.stringMatching(/^DATA_LOSS \[MODEL_PACKAGE_CORRUPT\] .*"weights\.bin"/),
    ]);
    const unread = JSON.parse((await run(["show", "package", "--no-verify", "--json"])).stdout);
    expect(unread).toMatchObject({
      directory: join(folder, "package"),
      verified: false,
      spec: { architecture: "llama" },
      precision: { name: "float32" },
    });
  });

  it("ends with 4 where there is no package, and says where a name was looked for", async () => {
    const { code, stderr } = await run(["show", "nothing"]);
    expect([code, stderr]).toEqual([4, expect.stringContaining("NOT_FOUND [MODEL_PACKAGE_NOT_FOUND]")]);
    expect(stderr).toContain(join(folder, "models"));
  });
});

describe("model list, verify and remove", () => {
  let shared: string;
  beforeAll(async () => {
    shared = await mkdtemp(join(tmpdir(), "persona-models-"));
    await persona(["model", "import", STARTER], { cwd: shared, env: { PERSONA_MODELS: shared } });
  });
  afterAll(() => rm(shared, { recursive: true }));

  /** A models directory with the starter in it. */
  async function withStarter(): Promise<string> {
    const models = join(folder, "models");
    await mkdir(models);
    for (const name of ["starter", "other"]) {
      await mkdir(join(models, name));
      for (const file of await readdir(join(shared, "starter"))) {
        await copyFile(join(shared, "starter", file), join(models, name, file));
      }
    }
    return models;
  }

  it("lists nothing with a hint, then models, and damaged ones with what is wrong", async () => {
    const empty = await run(["list"]);
    expect(empty).toMatchObject({ code: 0, stdout: "" });
    expect(empty.stderr).toContain(`no models in ${join(folder, "models")}; "persona model import`);
    expect(JSON.parse((await run(["list", "--json"])).stdout)).toEqual({
      directory: join(folder, "models"),
      models: [],
    });

    const models = await withStarter();
    await rm(join(models, "other", "body.onnx"));
    const { code, stdout } = await run(["list"]);
    expect(code).toBe(0);
    const [heading = "", starter = "", blank, damagedHeading = "", damaged = ""] = stdout.split("\n");
    expect(heading.split(/ {2,}/)).toEqual([
      "NAME",
      "ARCHITECTURE",
      "PRECISION",
      "PARAMETERS",
      "WEIGHTS",
      "CONTEXT",
      "CHECKSUM",
      "CREATED",
    ]);
    expect(starter).toMatch(
      /^starter +llama +float32 +2\.21M +8\.86 MB +1024 +[0-9a-f]{12} +20\d\d-\d\d-\d\d \d\d:\d\d$/,
    );
    expect([blank, damagedHeading.split(/ {2,}/)[0]]).toEqual(["", "DAMAGED"]);
    expect(damaged).toMatch(/^other +MODEL_PACKAGE_CORRUPT +"body\.onnx" is missing$/);
    const json = JSON.parse((await run(["list", "--json"])).stdout);
    expect(json.models).toMatchObject([
      { name: "other", architecture: null, damaged: { reason: "MODEL_PACKAGE_CORRUPT" } },
      { name: "starter", architecture: "llama", parameters: 2_214_336, weightBytes: 8_857_344, damaged: null },
    ]);
    expect(Object.keys(json.models[0])).toEqual(Object.keys(json.models[1]));
  });

  it("verifies a model by its name, one line a check", async () => {
    await withStarter();
    const { code, stdout, stderr } = await run(["verify", "starter"]);
    expect([code, stderr]).toEqual([0, ""]);
    const lines = stdout.trimEnd().split("\n");
    expect(lines.map((line) => line.split(/ +/).slice(0, 2))).toEqual(CHECK_NAMES.map((name) => ["passed", name]));
  });

  it("ends with 5 and names the checks that failed; as JSON the report is on stdout", async () => {
    const models = await withStarter();
    await flip(join(models, "other", "body.onnx"), 5000);
    const failed = await run(["verify", "other", "--json"]);
    expect(failed.code).toBe(5);
    expect(JSON.parse(failed.stdout)).toMatchObject({ directory: join(models, "other"), passed: false });
    expect(JSON.parse(failed.stdout).checks[0]).toMatchObject({ name: "files", outcome: "failed" });
    expect(JSON.parse(failed.stderr).error).toMatchObject({
      code: "DATA_LOSS",
      reason: "VERIFICATION_FAILED",
      message: "1 of 15 checks failed: files",
    });
    const shown = await run(["verify", "other"], { columns: 80 });
    expect(shown.stdout).toContain("\u001b[31mfailed \u001b[39m  files");
    expect(shown.stderr).toMatch(/\rfiles \d/);
  });

  it("stops on an interrupt, between two checks", async () => {
    await withStarter();
    const interruptOn = (written: string) => written.includes("identities");
    const { code, stdout } = await run(["verify", "starter"], { interruptOn });
    expect(code).toBe(130);
    expect(stdout).not.toContain("steering-renorm");
  });

  it("removes models with --yes, all or none", async () => {
    const models = await withStarter();
    const missing = await run(["remove", "starter", "nothing", "--yes"]);
    expect([missing.code, await readdir(models)]).toEqual([4, ["other", "starter"]]);
    const both = await run(["remove", "starter", join(models, "other"), "starter", "--yes", "--json"]);
    expect(both.code).toBe(0);
    const { removed } = JSON.parse(both.stdout);
    expect(removed.map(({ directory }: { directory: string }) => directory)).toEqual(
      ["starter", "other"].map((name) => join(models, name)),
    );
    expect(removed[0].bytes).toBeGreaterThan(8_857_344);
    expect(await readdir(models)).toEqual([]);
  });

  it("removes nothing that is not a package", async () => {
    const models = await withStarter();
    await rename(join(models, "starter", "manifest.json"), join(models, "starter", "manifest.old"));
    const refused = await run(["remove", "other", "starter", "--yes"]);
    expect([refused.code, refused.stderr]).toEqual([4, expect.stringContaining("nothing of it is removed")]);
    expect(await readdir(models)).toEqual(["other", "starter"]);
  });

  it("asks on a terminal, by name and size, and takes only a yes", async () => {
    const models = await withStarter();
    const answered = (...answers: string[]) => {
      const stdin = new PassThrough();
      for (const answer of answers) stdin.write(`${answer}\n`);
      return run(["remove", "other"], { columns: 80, stdin });
    };
    for (const answer of ["", "n", "yess", "other"]) {
      const kept = await answered(answer);
      expect([kept.code, await readdir(models)]).toEqual([0, ["other", "starter"]]);
      expect(kept.stderr).toMatch(/^Remove "other" for good, 9\.\d+ MB in .*\? \[y\/N\] .*stays/s);
    }
    expect((await answered("Yes")).stderr).toContain(`removed ${join(models, "other")}`);
    expect(await readdir(models)).toEqual(["starter"]);
  });

  it("asks nobody where there is nobody, and ends on an interrupt while it asks", async () => {
    const models = await withStarter();
    const alone = await run(["remove", "other"]);
    expect([alone.code, alone.stderr]).toEqual([2, expect.stringContaining("USAGE [CONFIRMATION_NEEDED]")]);
    const interrupt = new AbortController();
    const stopped = await run(["remove", "other"], {
      columns: 80,
      stdin: new PassThrough(),
      interrupt,
      // Later, when the answer is waited for.
      interruptOn: (written) => {
        if (written.includes("[y/N]")) setTimeout(() => interrupt.abort(new InterruptedError("SIGINT")), 20);
        return false;
      },
    });
    expect(stopped.code).toBe(130);
    const closed = await run(["remove", "other"], { columns: 80, stdin: "" });
    expect([closed.code, closed.stderr]).toEqual([0, expect.stringContaining("stays")]);
    const json = await run(["remove", "other", "--json"], { columns: 80, stdin: "y\n" });
    expect(JSON.parse(json.stderr).error).toMatchObject({ reason: "CONFIRMATION_NEEDED", exitCode: 2 });
    expect(await readdir(models)).toEqual(["other", "starter"]);
  });
});
