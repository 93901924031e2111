import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign,
  verify,
} from "node:crypto";
import type { SignedRoot } from "./root.ts";

/** The key that roots are verified with, as it is published. */
export interface AuditPublicKey {
  /** Thumbprint of the key (RFC 7638): who knows the id can check the key. */
  readonly keyId: string;
  /** JSON Web Key (RFC 8037): `kty`, `crv` and `x` alone. */
  readonly jwk: string;
}

/** The key that roots are signed with. Stays outside the database. */
export interface AuditSigningKey extends AuditPublicKey {
  sign(body: string): Uint8Array;
}

/** A new Ed25519 key, PKCS #8 PEM. */
export function generateAuditKey(): string {
  const { privateKey } = generateKeyPairSync("ed25519");
  return privateKey.export({ type: "pkcs8", format: "pem" }) as string;
}

/** @throws Error where the text is no Ed25519 private key in PEM */
export function readSigningKey(pem: string): AuditSigningKey {
  const key = createPrivateKey(pem);
  if (key.asymmetricKeyType !== "ed25519") throw new Error(`the key is ${key.asymmetricKeyType}, not ed25519`);
  const published = publish(createPublicKey(key));
  return { ...published, sign: (body) => sign(null, Buffer.from(body, "utf8"), key) };
}

/**
 * A public key as JSON Web Key.
 *
 * @returns undefined where the text is none, is not Ed25519, or has a private part
 */
export function readPublicKey(jwk: string): AuditPublicKey | undefined {
  const key = publicKeyIn(jwk);
  return key === undefined ? undefined : publish(key);
}

/** Public keys as a JSON Web Key Set, for verifiers to keep. */
export function encodeKeySet(keys: readonly AuditPublicKey[]): string {
  const set = keys.map(({ jwk, keyId }) => ({ ...(JSON.parse(jwk) as object), kid: keyId }));
  return `${JSON.stringify({ keys: set }, null, 2)}\n`;
}

/**
 * The keys in a file that a verifier trusts: a JSON Web Key Set or a single key. Ids are taken from the keys themselves.
 *
 * @throws Error where it is neither, has no key, or has one that is no public Ed25519 key
 */
export function decodeKeySet(text: string): AuditPublicKey[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new Error("no JSON Web Key Set: not JSON", { cause: error });
  }
  const set = typeof parsed === "object" && parsed !== null && "keys" in parsed ? parsed.keys : [parsed];
  if (!Array.isArray(set) || set.length === 0) throw new Error("no JSON Web Key Set with keys");
  return set.map((jwk, at) => {
    const key = readPublicKey(JSON.stringify(jwk));
    if (key === undefined) throw new Error(`key ${at + 1} is no public Ed25519 key (JSON Web Key)`);
    return key;
  });
}

/** Verifies roots under keys, each parsed once. */
export class RootVerifier {
  readonly #keys = new Map<string, KeyObject>();

  /** Trust this key. @throws Error where it is no public Ed25519 key, or not the one that its id names */
  add({ keyId, jwk }: AuditPublicKey): void {
    const key = publicKeyIn(jwk);
    if (key === undefined) throw new Error(`key "${keyId.slice(0, 64)}" is no public Ed25519 key (JSON Web Key)`);
    const actual = publish(key).keyId;
    if (actual !== keyId) throw new Error(`key "${keyId.slice(0, 64)}" has the thumbprint ${actual}`);
    this.#keys.set(keyId, key);
  }

  knows(keyId: string): boolean {
    return this.#keys.has(keyId);
  }

  /** Whether the root has the signature of a key that was added. */
  verify({ body, signature, keyId }: SignedRoot): boolean {
    const key = this.#keys.get(keyId);
    return key !== undefined && verify(null, Buffer.from(body, "utf8"), key, signature);
  }
}

function publicKeyIn(jwk: string): KeyObject | undefined {
  try {
    const parsed = JSON.parse(jwk) as Record<string, unknown>;
    if (parsed["kty"] !== "OKP" || parsed["crv"] !== "Ed25519" || "d" in parsed) return undefined;
    return createPublicKey({ key: parsed as never, format: "jwk" });
  } catch {
    return undefined;
  }
}

function publish(key: KeyObject): AuditPublicKey {
  const { crv, kty, x } = key.export({ format: "jwk" });
  // The members that the thumbprint is over, in its order.
  const jwk = JSON.stringify({ crv, kty, x });
  return { keyId: createHash("sha256").update(jwk).digest("base64url"), jwk };
}
