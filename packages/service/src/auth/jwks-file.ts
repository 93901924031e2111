import { readFile, stat } from "node:fs/promises";
import type { JWTVerifyGetKey } from "jose";
import { ServiceError } from "../errors/service-error.ts";
import type { Logger } from "../log.ts";
import { parseKeys } from "./key-set.ts";
import type { KeySource } from "./token-verifier.ts";

/**
 * Verification keys from a JWKS file, read again when it changes: keys rotate without a restart. A file that becomes
 * unreadable leaves the last good keys in force, with an error in the log.
 *
 * @throws ServiceError CONFIG_INVALID when the file cannot be used at start
 */
export async function openJwksFile(path: string, log: Logger): Promise<KeySource> {
  let current = await load(path);
  let checkedAt = performance.now();

  async function refresh(): Promise<void> {
    checkedAt = performance.now();
    try {
      if ((await versionOf(path)) === current.version) return;
      current = await load(path);
      log.info({ path }, "verification keys reloaded");
    } catch (error) {
      log.error({ err: error, path }, "verification keys cannot be reloaded; the previous ones stay in force");
    }
  }

  return {
    async getKey(header, token) {
      if (performance.now() - checkedAt > RECHECK_MS) await refresh();
      return current.getKey(header, token);
    },
  };
}

/** How stale the keys can be: a revoked key is out of force after this, and an unknown key id cannot cause more reads. */
const RECHECK_MS = 1_000;

interface Keys {
  readonly version: string;
  readonly getKey: JWTVerifyGetKey;
}

async function load(path: string): Promise<Keys> {
  try {
    const version = await versionOf(path);
    return { version, getKey: parseKeys(await readFile(path, "utf8"), "refuse") };
  } catch (error) {
    const why = (error as Error).message;
    throw new ServiceError("CONFIG_INVALID", `the key file ${path} cannot be used: ${why}`, { cause: error });
  }
}

/** Also changes when the file is replaced within one tick of the clock. */
async function versionOf(path: string): Promise<string> {
  const { ino, mtimeMs, size } = await stat(path);
  return `${ino}:${mtimeMs}:${size}`;
}
