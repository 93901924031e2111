import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportJWK, generateKeyPair, importJWK, type JWK, SignJWT } from "jose";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { captureLogs } from "../testing/test-server.ts";
import { openJwksFile } from "./jwks-file.ts";
import { createTokenVerifier } from "./token-verifier.ts";

const rules = { issuer: "issuer", audience: "mesh" };
let folder: string;
let file: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-jwks-"));
  file = join(folder, "jwks.json");
  vi.useFakeTimers({ toFake: ["performance"] });
});

afterEach(async () => {
  vi.useRealTimers();
  await rm(folder, { recursive: true });
});

async function makeKey(alg: "EdDSA" | "RS256", kid: string) {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const sign = (signatureAlgorithm: string = alg, key: Parameters<SignJWT["sign"]>[0] = privateKey) =>
    new SignJWT({ tenant: "acme", roles: ["viewer"] })
      .setProtectedHeader({ alg: signatureAlgorithm, kid })
      .setSubject("s")
      .setIssuer(rules.issuer)
      .setAudience(rules.audience)
      .setExpirationTime("1h")
      .sign(key);
  return { publicJwk: { ...(await exportJWK(publicKey)), kid } as JWK, privateJwk: await exportJWK(privateKey), sign };
}

/** As tools do that replace a file: never half of it. */
async function write(content: unknown): Promise<void> {
  await writeFile(`${file}.new`, typeof content === "string" ? content : JSON.stringify(content));
  await rename(`${file}.new`, file);
}

test("Ed25519 and RSA keys verify side by side, each its own tokens", async () => {
  const [a, b] = [await makeKey("EdDSA", "a"), await makeKey("RS256", "b")];
  await write({ keys: [a.publicJwk, b.publicJwk] });
  const verify = createTokenVerifier(await openJwksFile(file, captureLogs().log), rules);
  for (const key of [a, b]) {
    expect(await verify([`Bearer ${await key.sign()}`])).toMatchObject({ subject: "s", tenant: "acme" });
  }
});

test("a trusted key does not make another algorithm acceptable", async () => {
  const key = await makeKey("RS256", "a");
  await write({ keys: [key.publicJwk] });
  const verify = createTokenVerifier(await openJwksFile(file, captureLogs().log), rules);
  await verify([`Bearer ${await key.sign()}`]);
  for (const alg of ["PS256", "RS512"]) {
    const token = await key.sign(alg, await importJWK(key.privateJwk, alg));
    await expect(verify([`Bearer ${token}`]), alg).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
  }
});

test("keys rotate without a restart: the new one is in force, the old one is out", async () => {
  const [old, next] = [await makeKey("EdDSA", "old"), await makeKey("EdDSA", "next")];
  await write({ keys: [old.publicJwk] });
  const verify = createTokenVerifier(await openJwksFile(file, captureLogs().log), rules);
  await verify([`Bearer ${await old.sign()}`]);
  await write({ keys: [next.publicJwk] });
  // Within a second no file is read again, whatever tokens ask for.
  await expect(verify([`Bearer ${await next.sign()}`])).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
  vi.advanceTimersByTime(1_500);
  await verify([`Bearer ${await next.sign()}`]);
  await expect(verify([`Bearer ${await old.sign()}`])).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
});

test.each(["not json", { keys: [] }, undefined])(
  "a file that breaks (%j) leaves the last keys in force",
  async (broken) => {
    const key = await makeKey("EdDSA", "a");
    const { logs, log } = captureLogs();
    await write({ keys: [key.publicJwk] });
    const verify = createTokenVerifier(await openJwksFile(file, log), rules);
    if (broken === undefined) await rm(file);
    else await write(broken);
    vi.advanceTimersByTime(1_500);
    await verify([`Bearer ${await key.sign()}`]);
    expect(logs).toContainEqual(expect.objectContaining({ level: "error", path: file }));
  },
);

test("a file that cannot be used at start is refused with the reason", async () => {
  const key = await makeKey("EdDSA", "a");
  const open = (content: unknown) => write(content).then(() => openJwksFile(file, captureLogs().log));
  await expect(openJwksFile(join(folder, "none.json"), captureLogs().log)).rejects.toThrow("ENOENT");
  await expect(open("{")).rejects.toThrow("not a JSON Web Key Set");
  await expect(open({ keys: [] })).rejects.toThrow("it has no keys");
  await expect(open({ keys: [{ ...key.privateJwk }] })).rejects.toThrow("a private key does not belong here");
  await expect(open({ keys: [{ kty: "oct", k: "AAAA" }] })).rejects.toThrow("only Ed25519 and RSA keys");
  await expect(open({ keys: [{ kty: "oct", k: "AAAA" }] })).rejects.toMatchObject({ reason: "CONFIG_INVALID" });
});
