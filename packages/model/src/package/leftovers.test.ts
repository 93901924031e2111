import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { clearLeftovers, OLD_SUFFIX, stagedName } from "./leftovers.ts";

/** A process id that was somebody's and is nobody's. */
const DEAD = spawnSync(process.execPath, ["--version"]).pid;
const TWO_HOURS = 2 * 60 * 60 * 1000;

let work: string;
let target: string;
beforeEach(async () => {
  work = await mkdtemp(join(tmpdir(), "leftovers-"));
  target = join(work, "package");
});
afterEach(async () => {
  await rm(work, { recursive: true, force: true });
});

/** A staged directory of another process, here or in another process space. */
async function leave(pid: number, { elsewhere = false, suffix = "" } = {}): Promise<string> {
  const own = stagedName("package");
  const [, space] = /-\d+-([0-9a-f]{8})-/.exec(own) as unknown as [string, string];
  const name = own
    .replace(`-${process.pid}-`, `-${pid}-`)
    .replace(space, elsewhere ? space.replace(/./g, (digit) => (digit === "0" ? "1" : "0")) : space);
  await mkdir(join(work, name + suffix));
  await writeFile(join(work, name + suffix, "weights.bin"), "half");
  return name + suffix;
}

describe("clearLeftovers", () => {
  it("removes what a dead process left, and keeps what a living one makes", async () => {
    await leave(DEAD);
    const living = [await leave(process.ppid), await leave(process.pid)];
    await clearLeftovers(target);
    expect((await readdir(work)).sort()).toEqual(living.sort());
  });

  it("removes what nobody has touched for long, whoever's it was", async () => {
    await leave(process.ppid);
    await leave(DEAD, { elsewhere: true });
    await clearLeftovers(target, Date.now() + TWO_HOURS);
    expect(await readdir(work)).toEqual([]);
  });

  it("keeps what a process that cannot be seen from here may be making", async () => {
    const name = await leave(DEAD, { elsewhere: true });
    await clearLeftovers(target);
    expect(await readdir(work)).toEqual([name]);
  });

  it("puts back what was replaced when its maker died between the two renames", async () => {
    const name = await leave(DEAD);
    await mkdir(join(work, name + OLD_SUFFIX));
    await writeFile(join(work, name + OLD_SUFFIX, "weights.bin"), "the old one");
    await clearLeftovers(target);
    expect(await readdir(work)).toEqual(["package"]);
    expect(await readFile(join(target, "weights.bin"), "utf8")).toBe("the old one");
  });

  it("removes what was replaced when its maker died after both", async () => {
    await leave(DEAD, { suffix: OLD_SUFFIX });
    await mkdir(target);
    await writeFile(join(target, "weights.bin"), "the new one");
    await clearLeftovers(target);
    expect(await readdir(work)).toEqual(["package"]);
    expect(await readFile(join(target, "weights.bin"), "utf8")).toBe("the new one");
  });

  it("touches nothing that only looks alike", async () => {
    const names = [`.package.staged-${DEAD}`, ".package.staged-notes", `.other.staged-${DEAD}-00000000-00000000`];
    for (const name of names) await mkdir(join(work, name));
    await clearLeftovers(target, Date.now() + TWO_HOURS);
    expect((await readdir(work)).sort()).toEqual(names.sort());
  });

  it("has nothing to do where there is no directory yet", async () => {
    await expect(clearLeftovers(join(work, "a/b/package"))).resolves.toBeUndefined();
  });
});
