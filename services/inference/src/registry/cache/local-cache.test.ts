import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, truncate, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLogger } from "@persona-mesh/service";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { personaState, revisionWith, tenantState, versionAlong } from "../../testing/governed-personas.ts";
import { changesOf, type Picture, updated } from "../picture.ts";
import { LocalCache } from "./local-cache.ts";

const X = versionAlong(0);
const Y = versionAlong(1);
const glad = revisionWith("glad", X);
const { picture } = updated(undefined, {
  kind: "snapshot",
  revision: 12n,
  changes: [personaState(glad), tenantState({ active: glad }), tenantState({ deleted: true }, "globex")],
});
const NONE = new Set<string>();
const revoked = (n: number) => ({ tenant: "acme", digest: n.toString(16).padStart(64, "0") });

let folder: string;
let lines: Record<string, unknown>[];
let caches: LocalCache[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-cache-"));
  lines = [];
  caches = [];
});
afterEach(async () => {
  for (const cache of caches) await cache.close();
  await rm(folder, { recursive: true, force: true });
});

async function open(maxBytes = 1_000_000): Promise<LocalCache> {
  const log = createLogger("test", "debug", { write: (line) => lines.push(JSON.parse(line)) });
  const cache = await LocalCache.open({ folder, maxBytes }, log);
  caches.push(cache);
  return cache;
}

/** A cache with a picture, a version, a contact and two revocations. */
async function fill(): Promise<void> {
  const cache = await open();
  await cache.revoke([revoked(1)]);
  await cache.revoke([revoked(2)]);
  await cache.keepVersion(X.digest, X.content, NONE);
  await cache.keep(picture, 2);
  await cache.heard(123_456.7);
}

const errors = () => lines.filter(({ level }) => level === "error");
const flat = (it: Picture | undefined) => it && [it.revision, changesOf(it, (_, change) => change())];

describe("a cache", () => {
  test("gives back what was kept", async () => {
    await fill();
    const cache = await open();
    expect(flat(cache.cached?.picture)).toEqual(flat(picture));
    expect(cache.cached?.lastContact).toBe(123_456);
    expect(cache.revoked).toEqual([revoked(1), revoked(2)]);
    expect(await cache.versions.read(X.digest)).toEqual(Buffer.from(X.content));
    expect(errors()).toEqual([]);
    const names = await readdir(folder);
    expect(names.sort()).toEqual(["contact", "revocations", "state", "versions"]);
  });

  test("that is empty has nothing, and that is no error", async () => {
    const cache = await open();
    expect([cache.cached, cache.revoked, errors()]).toEqual([undefined, [], []]);
  });

  test.each([0, 8, 20, 41, 60, -1])(
    "with byte %d of its picture changed is ignored, loudly, and keeps its revocations",
    async (at) => {
      await fill();
      const path = join(folder, "state");
      const bytes = await readFile(path);
      const index = at < 0 ? bytes.length + at : at;
      bytes[index] = (bytes[index] as number) ^ 1;
      await writeFile(path, bytes);
      const cache = await open();
      expect(cache.cached).toBeUndefined();
      expect(cache.revoked).toHaveLength(2);
      expect(errors()).toHaveLength(1);
    },
  );

  test("whose picture is cut off is ignored", async () => {
    await fill();
    await truncate(join(folder, "state"), 30);
    expect((await open()).cached).toBeUndefined();
    expect(errors()).toHaveLength(1);
  });

  test("of unknown age is ignored", async () => {
    await fill();
    await writeFile(join(folder, "contact"), "yesterday\n");
    expect((await open()).cached).toBeUndefined();
    expect(errors()).toHaveLength(1);
  });
});

describe("revocations", () => {
  const path = () => join(folder, "revocations");

  test.each<[string, () => Promise<void>]>([
    ["a changed digit", async () => writeFile(path(), (await readFile(path(), "utf8")).replace("0001", "0003"))],
    ["a line of something else", () => writeFile(path(), "hello\n", { flag: "a" })],
    ["a missing file", () => unlink(path())],
    ["a missing line", async () => truncate(path(), (await readFile(path())).length / 2)],
  ])("%s: nothing of the cache is served until the registry has answered, which heals it", async (_, damage) => {
    await fill();
    await damage();
    const cache = await open();
    expect(cache.cached).toBeUndefined();
    expect(errors()).toMatchObject([{ msg: expect.stringContaining("revocations cannot be read") }]);
    // As after the registry's snapshot.
    expect(await cache.revoke([revoked(1), revoked(2), revoked(3)])).toBe(true);
    await cache.keep(picture, 3);
    const healed = await open();
    expect(healed.cached).toBeDefined();
    expect(healed.revoked).toEqual([revoked(1), revoked(2), revoked(3)]);
  });

  test("half a line at the end was never acknowledged: it is left out, and later lines are whole", async () => {
    await fill();
    await writeFile(path(), "acme 00000", { flag: "a" });
    const cache = await open();
    expect(cache.revoked).toHaveLength(2);
    expect(cache.cached).toBeDefined();
    await cache.revoke([revoked(3)]);
    expect((await open()).revoked).toEqual([revoked(1), revoked(2), revoked(3)]);
  });

  test("that cannot be written void the picture, and are written as soon as they can be", async () => {
    const cache = await open();
    await cache.keep(picture, 0);
    await cache.heard(1);
    // No write succeeds, as on a full disk.
    await mkdir(path());
    expect(await cache.revoke([revoked(1)])).toBe(false);
    expect(await readdir(folder)).not.toContain("state");
    expect(await cache.keep(picture, 1)).toBe(false);
    expect(await readdir(folder)).not.toContain("state");
    await rmdir(path());
    expect(await cache.revoke([])).toBe(true);
    expect(await cache.keep(picture, 1)).toBe(true);
    const later = await open();
    expect(later.revoked).toEqual([revoked(1)]);
    expect(later.cached).toBeDefined();
  });
});

describe("versions", () => {
  test("what is not what its name says is not given out, and deleted", async () => {
    await fill();
    const path = join(folder, "versions", `${X.digest}.vector`);
    await writeFile(path, Y.content);
    const cache = await open();
    expect(await cache.versions.read(X.digest)).toBeUndefined();
    expect(await readdir(join(folder, "versions"))).toEqual([]);
  });

  test("the folder stays within its size: what was used longest ago goes, what is in use stays", async () => {
    const versions = [0, 1, 2, 3].map((axis) => versionAlong(axis));
    const size = (versions[0] as typeof X).content.length;
    const [a, b, c, d] = versions as [typeof X, typeof X, typeof X, typeof X];
    const cache = await open(size * 2 + 10);
    for (const { digest, content } of [a, b]) await cache.keepVersion(digest, content, NONE);
    await cache.versions.read(a.digest);
    await cache.keepVersion(c.digest, c.content, NONE);
    expect(versions.map(({ digest }) => cache.versions.has(digest))).toEqual([true, false, true, false]);
    await cache.keepVersion(d.digest, d.content, new Set([a.digest, c.digest]));
    expect(versions.map(({ digest }) => cache.versions.has(digest))).toEqual([true, false, true, false]);
    expect(lines).toMatchObject([{ level: "warn", digest: d.digest }]);
    // Also what an earlier process left.
    const later = await open(size * 2 + 10);
    await later.keepVersion(d.digest, d.content, new Set([c.digest]));
    expect(versions.map(({ digest }) => later.versions.has(digest))).toEqual([false, false, true, true]);
    expect(await readdir(join(folder, "versions"))).toHaveLength(2);
  });

  test("what processes that are gone left half written is deleted, what is being written is not", async () => {
    await open();
    const gone = spawn(process.execPath, ["--version"]);
    await new Promise((resolve) => gone.once("exit", resolve));
    const half = (pid: number | undefined) =>
      join(folder, "versions", `${X.digest}.vector.${pid}.0123456789abcdef.part`);
    await writeFile(half(gone.pid), "half");
    await writeFile(half(process.ppid), "half");
    await open();
    expect(await readdir(join(folder, "versions"))).toEqual([half(process.ppid).split("/").at(-1)]);
  });
});
