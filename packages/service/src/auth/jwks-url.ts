import { errors, type JWTVerifyGetKey } from "jose";
import { ServiceError } from "../errors/service-error.ts";
import type { Logger } from "../log.ts";
import { parseKeys } from "./key-set.ts";
import type { KeySource } from "./token-verifier.ts";

/** Verification keys that an issuer publishes. */
export interface RemoteKeys extends KeySource {
  /** Resolves when the keys have been fetched for the first time; until then every token is refused. */
  readonly ready: Promise<void>;
  /** Stop fetching. */
  close(): void;
}

/** When keys are fetched, in milliseconds. */
export interface JwksTiming {
  /** Between two fetches while all is well: how long a revoked key stays in force. @default 5 minutes */
  readonly refreshMs: number;
  /** How long one fetch may take. @default 5 s */
  readonly timeoutMs: number;
  /** First pause after a failure; it doubles up to refreshMs. @default 1 s */
  readonly retryMs: number;
  /** A token with an unknown key causes a fetch at most this often: anyone can make such tokens. @default 30 s */
  readonly cooldownMs: number;
  /** How long keys stay in force while the issuer cannot be reached. @default 1 hour */
  readonly staleMs: number;
}

/**
 * Verification keys from a URL, fetched in the background: calls never wait for the issuer, except those with a key that
 * was not seen before. While the issuer cannot be reached the last keys stay in force for `staleMs`; after that, and before
 * the first fetch, tokens are refused with KEYS_UNAVAILABLE.
 *
 * jose's own remote set fetches within calls, drops its keys as soon as they cannot be renewed, and does not bound how
 * often it fetches while that fails.
 */
export function openJwksUrl(url: string, log: Logger, timing: Partial<JwksTiming> = {}): RemoteKeys {
  const { refreshMs, timeoutMs, retryMs, cooldownMs, staleMs } = { ...TIMING, ...timing };
  let current: { readonly getKey: JWTVerifyGetKey; readonly fetchedAt: number } | undefined;
  let attemptedAt = Number.NEGATIVE_INFINITY;
  let pending: Promise<void> | undefined;
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;
  const { promise: ready, resolve: becomeReady } = Promise.withResolvers<void>();

  /** One fetch at a time; never rejects. */
  function refresh(): Promise<void> {
    pending ??= attempt().finally(() => {
      pending = undefined;
    });
    return pending;
  }

  async function attempt(): Promise<void> {
    clearTimeout(timer);
    attemptedAt = performance.now();
    try {
      current = { getKey: parseKeys(await fetchText(url, timeoutMs), "skip"), fetchedAt: performance.now() };
      if (failures > 0) log.info({ url }, "verification keys fetched again");
      failures = 0;
      becomeReady();
    } catch (error) {
      failures++;
      log.error({ err: error, url, failures }, "verification keys cannot be fetched");
    }
    if (isClosed) return;
    const pause = failures === 0 ? refreshMs : Math.min(refreshMs, retryMs * 2 ** Math.min(failures - 1, 16));
    timer = setTimeout(refresh, pause);
    timer.unref();
  }

  function keysInForce(): JWTVerifyGetKey {
    if (current !== undefined && performance.now() - current.fetchedAt <= staleMs) return current.getKey;
    throw new ServiceError("KEYS_UNAVAILABLE", "the issuer's keys are not available, so no token can be verified");
  }

  void refresh();
  return {
    ready,
    async getKey(header, token) {
      try {
        return await keysInForce()(header, token);
      } catch (error) {
        const isUnknown = error instanceof errors.JWKSNoMatchingKey;
        if (isClosed || !isUnknown || (pending === undefined && performance.now() - attemptedAt < cooldownMs))
          throw error;
        await refresh();
        return keysInForce()(header, token);
      }
    },
    close: () => {
      isClosed = true;
      clearTimeout(timer);
    },
  };
}

const TIMING: JwksTiming = {
  refreshMs: 5 * 60_000,
  timeoutMs: 5_000,
  retryMs: 1_000,
  cooldownMs: 30_000,
  staleMs: 3600_000,
};

/** A hundred RSA keys with certificates are 400 KB. */
const MAX_BYTES = 1024 * 1024;

async function fetchText(url: string, timeoutMs: number): Promise<string> {
  const response = await fetch(url, {
    headers: { accept: "application/json, application/jwk-set+json" },
    // The URL was checked to be safe; what it leads to was not.
    redirect: "error",
    signal: AbortSignal.timeout(timeoutMs),
  });
  const { body } = response;
  if (!response.ok || body === null) {
    await body?.cancel();
    throw new Error(`the answer is ${response.status}`);
  }
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.byteLength;
    if (length > MAX_BYTES) throw new Error(`the answer is longer than ${MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
