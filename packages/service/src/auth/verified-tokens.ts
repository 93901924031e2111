import { createHash } from "node:crypto";
import type { JWTVerifyGetKey } from "jose";
import type { Caller } from "./caller.ts";

/** Tokens that are remembered: of the callers of a server, those that call most. */
const MAX_TOKENS = 4096;

interface Verified {
  readonly caller: Caller;
  /** That the signature is of. */
  readonly key: unknown;
  /** Names the key. */
  readonly header: Parameters<JWTVerifyGetKey>[0];
  /** Milliseconds since the epoch. */
  readonly expires: number;
}

/** Keys are chosen by the header: the token itself is not kept for them. */
const NO_TOKEN: Parameters<JWTVerifyGetKey>[1] = { payload: "", signature: "" };

/**
 * Tokens whose signatures were verified before: a caller of many calls has its token verified once. What a signature says does not
 * change; whether its key is still in force is asked at every call, and the time is looked at. Known by their digests alone.
 */
export class VerifiedTokens {
  readonly #getKey: JWTVerifyGetKey;
  /** The least recently used comes first. */
  readonly #verified = new Map<string, Verified>();

  constructor(getKey: JWTVerifyGetKey) {
    this.#getKey = getKey;
  }

  /** @returns undefined for a token that has to be verified */
  async get(token: string): Promise<Caller | undefined> {
    const id = digestOf(token);
    const verified = this.#verified.get(id);
    if (verified === undefined) return undefined;
    this.#verified.delete(id);
    if (Date.now() >= verified.expires || !(await this.#isInForce(verified))) return undefined;
    this.#keep(id, verified);
    return verified.caller;
  }

  add(token: string, verified: Verified): void {
    this.#keep(digestOf(token), verified);
  }

  /** As the one that was used last. Others may have come while the keys were asked. */
  #keep(id: string, verified: Verified): void {
    this.#verified.delete(id);
    this.#verified.set(id, verified);
    const [oldest] = this.#verified.keys();
    if (this.#verified.size > MAX_TOKENS && oldest !== undefined) this.#verified.delete(oldest);
  }

  async #isInForce({ key, header }: Verified): Promise<boolean> {
    try {
      return (await this.#getKey(header, NO_TOKEN)) === key;
    } catch {
      // Verifying it says why.
      return false;
    }
  }
}

function digestOf(token: string): string {
  return createHash("sha256").update(token).digest("base64");
}
