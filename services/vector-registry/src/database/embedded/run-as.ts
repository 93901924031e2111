import { readFileSync } from "node:fs";
import { ServiceError } from "@persona-mesh/service";

/** A user of the system, by number. */
export interface RunAs {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Under whom PostgreSQL runs: ourselves, except that it refuses root. For root that is `nobody`, who exists already; no
 * user is added to the system.
 *
 * @param userFile - where the users of the system stand, for tests
 * @returns undefined where PostgreSQL can run as this process does
 */
export function runAs(userFile = "/etc/passwd"): RunAs | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const line = readFileSync(userFile, "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("nobody:"));
  const [, , uid, gid] = (line ?? "").split(":").map(Number);
  // Below 0 on macOS, where the system wants the same bits as an unsigned number.
  if (uid === undefined || gid === undefined || Number.isNaN(uid + gid) || uid === 0) {
    throw new ServiceError(
      "DATABASE_EMBEDDED_FAILED",
      "PostgreSQL does not run as root and this system has no user nobody: start the service as another user",
    );
  }
  return { uid: uid >>> 0, gid: gid >>> 0 };
}
