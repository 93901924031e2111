import { createHmac, generateKeyPairSync } from "node:crypto";
import { exportJWK, generateKeyPair, importJWK, type JWTPayload, SignJWT } from "jose";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { ClientError } from "../errors/client-error.ts";
import { openTestServer, type TestServer } from "../testing/test-server.ts";

let mesh: TestServer;

beforeAll(async () => {
  mesh = await openTestServer();
});

afterAll(() => mesh.close());

const now = () => Math.floor(Date.now() / 1000);

const CLAIMS = {
  iss: "persona-mesh-dev",
  aud: "persona-mesh",
  sub: "tester",
  tenant: "acme",
  roles: ["viewer"],
  exp: now() + 3600,
};

/** Signed by the key that the server trusts. */
async function signed(claims: JWTPayload, header: Record<string, unknown> = {}): Promise<string> {
  const key = await importJWK(mesh.keys.privateJwk, "EdDSA");
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "EdDSA", kid: String(mesh.keys.privateJwk.kid), ...header })
    .sign(key);
}

/** The reason with which a call with this token fails, or the model's name when it does not. */
async function outcome(token: string): Promise<string> {
  const client = await mesh.client({ token });
  try {
    return (await client.getModel({})).modelChecksum;
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    return error.reason;
  }
}

const base64 = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");

test("a good token is let in, or the refusals below would prove nothing", async () => {
  expect(await outcome(await signed(CLAIMS))).toBe("test");
  expect(await outcome(await signed({ ...CLAIMS, aud: ["other", "persona-mesh"] }))).toBe("test");
});

test("a call without a token", async () => {
  const { createClient } = await import("../grpc/client.ts");
  const { credentials } = await import("@grpc/grpc-js");
  const { InferenceService } = await import("@persona-mesh/protocol");
  const client = createClient(InferenceService, mesh.server.address, credentials.createInsecure());
  onTestFinished(client.close);
  await expect(client.getModel({})).rejects.toMatchObject({ reason: "TOKEN_MISSING" });
});

test("an expired token, beyond the tolerance for clocks", async () => {
  expect(await outcome(await signed({ ...CLAIMS, exp: now() - 60 }))).toBe("TOKEN_EXPIRED");
  expect(await outcome(await signed({ ...CLAIMS, exp: now() - 1 }))).toBe("test");
});

test.each([
  ["for another audience", { aud: "other" }],
  ["of another issuer", { iss: "someone-else" }],
  ["that is not valid yet", { nbf: now() + 60 }],
  ["without an expiry", { exp: undefined }],
  ["without a subject", { sub: undefined }],
  ["without a tenant", { tenant: undefined }],
  ["without roles", { roles: undefined }],
  ["with a tenant that is a path", { tenant: "../other" }],
  ["with a tenant in capitals", { tenant: "ACME" }],
  ["with an empty tenant", { tenant: "" }],
  ["with a tenant that ends in a dash", { tenant: "acme-" }],
  ["with a tenant of 64 letters", { tenant: "a".repeat(64) }],
  ["with roles that are one string", { roles: "admin" }],
  ["with roles that are objects", { roles: [{ role: "admin" }] }],
])("a token %s", async (_, changes) => {
  expect(await outcome(await signed({ ...CLAIMS, ...changes } as JWTPayload))).toBe("TOKEN_INVALID");
});

test("a tenant of one and of 63 letters is one", async () => {
  for (const tenant of ["a", "a".repeat(63), "a-1"]) {
    expect(await outcome(await signed({ ...CLAIMS, tenant })), tenant).toBe("test");
  }
});

test("a token signed by another key, under our key's id and under its own", async () => {
  const { privateKey } = await generateKeyPair("EdDSA");
  for (const kid of [String(mesh.keys.privateJwk.kid), "theirs"]) {
    const forged = await new SignJWT(CLAIMS).setProtectedHeader({ alg: "EdDSA", kid }).sign(privateKey);
    expect(await outcome(forged)).toBe("TOKEN_INVALID");
  }
});

test("a token that brings its own key", async () => {
  const { privateKey, publicKey } = await generateKeyPair("EdDSA", { extractable: true });
  const forged = await new SignJWT(CLAIMS)
    .setProtectedHeader({ alg: "EdDSA", jwk: await exportJWK(publicKey) })
    .sign(privateKey);
  expect(await outcome(forged)).toBe("TOKEN_INVALID");
});

test("a token whose claims were changed after signing", async () => {
  const [header, , signature] = (await signed(CLAIMS)).split(".");
  expect(await outcome(`${header}.${base64({ ...CLAIMS, roles: ["admin"] })}.${signature}`)).toBe("TOKEN_INVALID");
});

test("alg none, in every spelling", async () => {
  for (const alg of ["none", "None", "NONE", ""]) {
    expect(await outcome(`${base64({ alg, typ: "JWT" })}.${base64(CLAIMS)}.`), alg).toBe("TOKEN_INVALID");
  }
});

test("HMAC with our public key as the secret", async () => {
  const { d: _, ...publicJwk } = mesh.keys.privateJwk;
  const body = `${base64({ alg: "HS256", kid: publicJwk.kid })}.${base64(CLAIMS)}`;
  for (const secret of [JSON.stringify(publicJwk), Buffer.from(String(publicJwk.x), "base64url")]) {
    const mac = createHmac("sha256", secret).update(body).digest("base64url");
    expect(await outcome(`${body}.${mac}`)).toBe("TOKEN_INVALID");
  }
});

test("an algorithm that is sound but not accepted here", async () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const forged = await new SignJWT(CLAIMS).setProtectedHeader({ alg: "ES256" }).sign(privateKey);
  expect(await outcome(forged)).toBe("TOKEN_INVALID");
});

test.each(["x", "a.b.c", "..", "a".repeat(9_000), `${"e30.".repeat(200)}`])("garbage: %.20s", async (token) => {
  expect(await outcome(token)).toBe("TOKEN_INVALID");
});

test("another scheme than bearer, and two tokens at once", async () => {
  const { createTokenVerifier } = await import("./token-verifier.ts");
  const { openJwksFile } = await import("./jwks-file.ts");
  const { captureLogs } = await import("../testing/test-server.ts");
  const keys = await openJwksFile(mesh.keys.jwksFile, captureLogs().log);
  const verify = createTokenVerifier(keys, { issuer: "persona-mesh-dev", audience: "persona-mesh" });
  const token = await signed(CLAIMS);
  await expect(verify([`Bearer ${token}`])).resolves.toMatchObject({ tenant: "acme" });
  await expect(verify([`bearer ${token}`])).resolves.toMatchObject({ tenant: "acme" });
  await expect(verify([`Basic ${token}`])).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
  await expect(verify([`Bearer ${token}`, `Bearer ${token}`])).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
});

test("roles of other systems count for nothing", async () => {
  expect(await outcome(await signed({ ...CLAIMS, roles: ["superuser", "viewer"] }))).toBe("test");
  expect(await outcome(await signed({ ...CLAIMS, roles: ["superuser", "constructor"] }))).toBe("PERMISSION_DENIED");
});

test("no token, whole or in part, is in any log line", async () => {
  const token = await signed({ ...CLAIMS, aud: "other" });
  await outcome(token);
  const logged = JSON.stringify(mesh.logs);
  for (const part of token.split(".")) expect(logged).not.toContain(part);
  expect(mesh.logs.some(({ reason }) => reason === "TOKEN_INVALID")).toBe(true);
});
