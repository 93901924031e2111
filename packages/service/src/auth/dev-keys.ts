import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose";
import { ServiceError } from "../errors/service-error.ts";
import { createPrivate, readPrivate, writeWhole } from "../private-files.ts";
import type { RoleName } from "./caller.ts";

/** A signing key for development, and the file that services verify its tokens with. */
export interface DevKeys {
  /** JWKS with the public key. */
  readonly jwksFile: string;
  /** Ed25519, with `kid`. */
  readonly privateJwk: JWK;
}

/**
 * The development keys in a folder; made when there are none. Safe for several processes that start at once: all get the
 * same key. Anyone who can read the folder can sign tokens, so it is for this user only.
 *
 * @throws ServiceError CONFIG_INVALID when the folder cannot be used or the key is readable by others
 */
export async function ensureDevKeys(dataDir: string): Promise<DevKeys> {
  const folder = join(dataDir, "dev-keys");
  const privateFile = join(folder, "private.jwk.json");
  const jwksFile = join(folder, "jwks.json");
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const privateJwk = (await readPrivateKey(privateFile)) ?? (await createPrivateKey(privateFile));
    const { d: _, ...publicJwk } = privateJwk;
    // Derived from the private key, so every process writes the same bytes.
    const jwks = `${JSON.stringify({ keys: [publicJwk] }, null, 2)}\n`;
    if ((await readFile(jwksFile, "utf8").catch(() => undefined)) !== jwks) await writeWhole(jwksFile, jwks, 0o644);
    return { jwksFile, privateJwk };
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    const why = (error as Error).message;
    throw new ServiceError("CONFIG_INVALID", `dataDir: no development keys in ${folder}: ${why}`, { cause: error });
  }
}

export interface DevTokenClaims {
  readonly subject: string;
  readonly tenant: string;
  readonly roles: readonly RoleName[];
  /** @default {@link DEV_TOKEN_TTL_SECONDS} */
  readonly ttlSeconds?: number;
  /** @default "persona-mesh-dev", as the service option authIssuer */
  readonly issuer?: string;
  /** @default "persona-mesh", as the service option authAudience */
  readonly audience?: string;
}

/** A token that services which trust these keys accept. */
export async function signDevToken({ privateJwk }: DevKeys, claims: DevTokenClaims): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ tenant: claims.tenant, roles: [...claims.roles] })
    .setProtectedHeader({ alg: "EdDSA", ...(privateJwk.kid === undefined ? {} : { kid: privateJwk.kid }) })
    .setSubject(claims.subject)
    .setIssuer(claims.issuer ?? "persona-mesh-dev")
    .setAudience(claims.audience ?? "persona-mesh")
    .setIssuedAt(now)
    .setExpirationTime(now + (claims.ttlSeconds ?? DEV_TOKEN_TTL_SECONDS))
    .sign(await importJWK(privateJwk, "EdDSA"));
}

/** A working day: a forgotten token does not stay valid for long. */
export const DEV_TOKEN_TTL_SECONDS = 8 * 3600;

async function readPrivateKey(path: string): Promise<JWK | undefined> {
  const text = await readPrivate(path);
  return text === undefined ? undefined : parseKey(text);
}

async function createPrivateKey(path: string): Promise<JWK> {
  const { privateKey } = await generateKeyPair("EdDSA", { extractable: true });
  const jwk = await exportJWK(privateKey);
  const kid = await calculateJwkThumbprint(jwk);
  const made: JWK = { ...jwk, kid, alg: "EdDSA", use: "sig" };
  return parseKey(await createPrivate(path, `${JSON.stringify(made, null, 2)}\n`));
}

async function parseKey(text: string): Promise<JWK> {
  const jwk = JSON.parse(text) as JWK;
  await importJWK(jwk, "EdDSA");
  return jwk;
}
