import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { NewFile } from "./new-file.ts";

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-file-"));
  path = join(folder, "out");
});
afterEach(async () => {
  await chmod(folder, 0o700);
  await rm(folder, { recursive: true });
});

describe("NewFile", () => {
  it("appears when it is whole, with its folder, and leaves nothing beside it", async () => {
    const nested = join(folder, "a", "b", "out");
    {
      await using file = await NewFile.create(nested, { overwrite: false });
      expect(await readdir(join(folder, "a", "b"))).not.toContain("out");
      await file.commit(Buffer.from("whole"));
    }
    expect(await readFile(nested, "utf8")).toBe("whole");
    expect(await readdir(join(folder, "a", "b"))).toEqual(["out"]);
  });

  it("leaves nothing behind when it is not committed", async () => {
    {
      await using _file = await NewFile.create(path, { overwrite: false });
    }
    expect(await readdir(folder)).toEqual([]);
  });

  it("replaces a file only when told to", async () => {
    await writeFile(path, "old");
    await expect(NewFile.create(path, { overwrite: false })).rejects.toMatchObject({ reason: "FILE_EXISTS" });
    await using file = await NewFile.create(path, { overwrite: true });
    expect(await readFile(path, "utf8")).toBe("old");
    await file.commit(Buffer.from("new"));
    expect(await readFile(path, "utf8")).toBe("new");
  });

  it("never replaces a file that someone else wrote meanwhile", async () => {
    await using file = await NewFile.create(path, { overwrite: false });
    await writeFile(path, "theirs");
    await expect(file.commit(Buffer.from("mine"))).rejects.toMatchObject({ reason: "FILE_EXISTS" });
    expect(await readFile(path, "utf8")).toBe("theirs");
  });

  it("never replaces a folder", async () => {
    await expect(NewFile.create(folder, { overwrite: true })).rejects.toMatchObject({ reason: "FILE_EXISTS" });
  });
});
