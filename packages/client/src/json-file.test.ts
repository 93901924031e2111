import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readBoundedFile, readJsonFile } from "./json-file.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-json-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function file(content: string | Uint8Array): Promise<string> {
  const path = join(folder, "file");
  await writeFile(path, content);
  return path;
}

describe("readJsonFile", () => {
  it("reads a file of exactly the limit", async () => {
    expect(await readJsonFile(await file('{"a":1}'), 7)).toEqual({ a: 1 });
  });

  it.each([
    ["one byte over the limit", '{"a":12}', "FILE_TOO_LARGE"],
    ["not JSON", "{a}", "FILE_INVALID"],
    ["not UTF-8", Uint8Array.of(0x22, 0xff, 0x22), "FILE_INVALID"],
    ["empty", "", "FILE_INVALID"],
  ])("refuses a file that is %s", async (_, content, reason) => {
    await expect(readJsonFile(await file(content), 7)).rejects.toMatchObject({ reason });
  });

  it("says FILE_NOT_FOUND and FILE_INVALID for a missing file and a folder", async () => {
    await expect(readJsonFile(join(folder, "none"), 7)).rejects.toMatchObject({ reason: "FILE_NOT_FOUND" });
    await expect(readJsonFile(folder, 7)).rejects.toMatchObject({ reason: "FILE_INVALID" });
  });

  it("reads more than one chunk", async () => {
    const text = "é".repeat(1_500_000);
    expect(await readBoundedFile(await file(text), 4 << 20)).toBe(text);
  });
});
