import type { ServiceValues } from "../config/service-options.ts";
import type { Logger } from "../log.ts";
import { ensureDevKeys } from "./dev-keys.ts";
import { openJwksFile } from "./jwks-file.ts";
import { openJwksUrl } from "./jwks-url.ts";
import type { KeySource } from "./token-verifier.ts";

/** Where a server's verification keys come from. */
export interface ServerKeys extends KeySource {
  /** Resolves when there are keys; undefined where there are from the start. */
  readonly ready: Promise<void> | undefined;
  close(): void;
}

/** The keys that the configuration names: a URL, a file, or in development keys made in dataDir. @throws ServiceError CONFIG_INVALID */
export async function openKeys(
  { authJwksUrl, authJwksFile, dataDir }: ServiceValues,
  log: Logger,
): Promise<ServerKeys> {
  if (authJwksUrl !== undefined) return openJwksUrl(authJwksUrl, log);
  const { getKey } = await openJwksFile(authJwksFile ?? (await ensureDevKeys(dataDir)).jwksFile, log);
  return { getKey, ready: undefined, close: () => {} };
}
