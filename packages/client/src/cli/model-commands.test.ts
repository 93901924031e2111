import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { persona } from "../testing/run-persona.ts";

const STARTER = fileURLToPath(new URL("../../../../models/starter", import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-model-"));
});
afterEach(() => rm(folder, { recursive: true }));

const run = (argv: string[], options: Parameters<typeof persona>[1] = {}) => persona(argv, { cwd: folder, ...options });
const importStarter = (...more: string[]) => run(["model", "import", STARTER, "--out", "package", ...more]);

describe("model import", () => {
  it("makes a package, and finds it unchanged the next time", async () => {
    const first = JSON.parse((await importStarter("--json")).stdout);
    expect(first).toMatchObject({ outcome: "created", directory: join(folder, "package"), precision: "float32" });
    expect(first.modelChecksum).toMatch(/^[0-9a-f]{64}$/);
    const { code, stdout, stderr } = await importStarter();
    expect([code, stderr]).toEqual([0, expect.stringContaining("unchanged")]);
    expect(stdout).toContain(first.modelChecksum);
    expect(await readdir(folder)).toEqual(["package"]);
  });

  it("replaces another package only with --overwrite", async () => {
    await importStarter();
    const manifest = join(folder, "package", "manifest.json");
    await writeFile(manifest, (await readFile(manifest, "utf8")).replace('"source": "starter"', '"source": 1'));
    const refused = await importStarter();
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining("[MODEL_PACKAGE_EXISTS]")]);
    expect(JSON.parse((await importStarter("--overwrite", "--json")).stdout)).toMatchObject({ outcome: "replaced" });
    expect((await run(["model", "show", "package"])).code).toBe(0);
  });

  it("never replaces what is no package", async () => {
    await writeFile(join(folder, "package"), "mine");
    const refused = await importStarter("--overwrite");
    expect([refused.code, refused.stderr]).toEqual([5, expect.stringContaining("[MODEL_PACKAGE_EXISTS]")]);
    expect(await readFile(join(folder, "package"), "utf8")).toBe("mine");
  });

  it("shows how far it is on a terminal, and leaves nothing behind when interrupted", async () => {
    const { code, stderr } = await run(["model", "import", STARTER, "--out", "package"], {
      columns: 80,
      interruptOn: (written) => written.includes("converting"),
    });
    expect(code).toBe(130);
    expect(stderr).toMatch(/converting \d+(\.\d+)? [kM]?B of \d+(\.\d+)? MB, /);
    expect(await readdir(folder)).toEqual([]);
  });

  it("says what a checkpoint lacks", async () => {
    const { code, stderr } = await run(["model", "import", ".", "--out", "package"]);
    expect([code, stderr]).toEqual([4, expect.stringContaining("NOT_FOUND [CHECKPOINT_NOT_FOUND]")]);
    await copyFile(join(STARTER, "tokenizer.json"), join(folder, "config.json"));
    const wrong = await run(["model", "import", ".", "--out", "package"]);
    expect([wrong.code, wrong.stderr]).toEqual([expect.any(Number), expect.stringMatching(/ \[CHECKPOINT_[A-Z_]+\] /)]);
    expect(wrong.code).toBeGreaterThan(3);
  });
});

describe("model show", () => {
  it("shows the package, and 5 with the file's name when a byte of it changed", async () => {
    await importStarter();
    const whole = await run(["model", "show", "package"]);
    expect(whole.stdout).toContain("files             agree with the manifest\n");
    const weights = await readFile(join(folder, "package", "weights.bin"));
    weights[5000] = (weights[5000] as number) ^ 1;
    await writeFile(join(folder, "package", "weights.bin"), weights);
    const broken = await run(["model", "show", "package"]);
    expect([broken.code, broken.stderr]).toEqual([
      5,
      expect.stringMatching(/^DATA_LOSS \[MODEL_PACKAGE_CORRUPT\] .*"weights\.bin"/),
    ]);
    const unread = JSON.parse((await run(["model", "show", "package", "--no-verify", "--json"])).stdout);
    expect(unread).toMatchObject({ verified: false, spec: { architecture: "llama" } });
  });

  it("ends with 4 where there is no package", async () => {
    const { code, stderr } = await run(["model", "show", "nothing"]);
    expect([code, stderr]).toEqual([4, expect.stringContaining("NOT_FOUND [MODEL_PACKAGE_NOT_FOUND]")]);
  });
});
