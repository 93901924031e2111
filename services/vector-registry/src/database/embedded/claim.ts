import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isRunning, ownIdentity, type ProcessIdentity } from "./processes.ts";

/**
 * Who runs the database of a folder. Of several processes the first owns it; the others use it while the owner runs. An
 * owner that was killed is succeeded by the next that asks. Should two succeed at once in spite of the care below,
 * PostgreSQL's own lock on its data lets only one server start.
 *
 * @returns how to give the claim back; undefined when a running process has it
 */
export function claim(folder: string): (() => void) | undefined {
  const path = join(folder, OWNER_FILE);
  const mine = join(folder, `${OWNER_FILE}.${process.pid}.${randomBytes(4).toString("hex")}`);
  const text = JSON.stringify(ownIdentity());
  writeFileSync(mine, text, { mode: 0o600 });
  try {
    // Linking fails where a file stands, which creating and writing a file in two steps would not settle.
    while (!tryLink(mine, path)) {
      const found = readOwner(path);
      if (found === undefined) continue;
      if (isRunning(found.owner)) return undefined;
      removeIfStill(path, found.text, `${mine}.old`);
    }
  } finally {
    rmSync(mine, { force: true });
  }
  return () => removeIfStill(path, text, `${mine}.old`);
}

/** Says who runs the database of a folder. */
export const OWNER_FILE = "owner.json";

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Undefined when the file went away meanwhile. */
function readOwner(path: string): { owner: ProcessIdentity; text: string } | undefined {
  try {
    const text = readFileSync(path, "utf8");
    return { owner: JSON.parse(text) as ProcessIdentity, text };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    // Nobody of ours writes such a file; an owner that cannot be told is none.
    return { owner: { pid: 0, started: "" }, text: readFileSync(path, "utf8") };
  }
}

/** Remove the owner's file unless somebody else has put another one there since it was read. */
function removeIfStill(path: string, text: string, aside: string): void {
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  if (readFileSync(aside, "utf8") !== text) tryLink(aside, path);
  rmSync(aside, { force: true });
}
