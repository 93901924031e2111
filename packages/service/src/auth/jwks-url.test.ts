import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, type JWK, SignJWT } from "jose";
import { afterEach, expect, onTestFinished, test, vi } from "vitest";
import { ClientError } from "../errors/client-error.ts";
import { captureLogs, startTestServer } from "../testing/test-server.ts";
import { type JwksTiming, openJwksUrl } from "./jwks-url.ts";
import { createTokenVerifier } from "./token-verifier.ts";

const rules = { issuer: "persona-mesh-dev", audience: "persona-mesh" };

async function makeKey(alg: "EdDSA" | "RS256", kid: string) {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const token = await new SignJWT({ tenant: "acme", roles: ["viewer"] })
    .setProtectedHeader({ alg, kid })
    .setSubject("s")
    .setIssuer(rules.issuer)
    .setAudience(rules.audience)
    .setExpirationTime("1h")
    .sign(privateKey);
  return { publicJwk: { ...(await exportJWK(publicKey)), kid } as JWK, authorization: [`Bearer ${token}`], token };
}

/** A real issuer: its keys change, it counts, and it can fail in every way. */
async function startIssuer(...keys: JWK[]) {
  const issuer = {
    url: "",
    fetches: 0,
    answer: ((_, response) => response.end(JSON.stringify({ keys: issuer.keys }))) as RequestListener,
    keys,
  };
  const server = createServer((request, response) => {
    issuer.fetches++;
    issuer.answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  issuer.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
  return issuer;
}

function open(url: string, timing: Partial<JwksTiming> = {}) {
  const { logs, log } = captureLogs();
  const keys = openJwksUrl(url, log, timing);
  onTestFinished(keys.close);
  return { ...keys, logs, verify: createTokenVerifier(keys, rules) };
}

const PATIENCE = { timeout: 10_000, interval: 20 };

async function outcomeOf(verified: Promise<unknown>): Promise<string> {
  return verified.then(
    () => "OK",
    (error: { reason: string }) => error.reason,
  );
}

afterEach(() => {
  vi.useRealTimers();
});

const [ed, rsa] = [await makeKey("EdDSA", "ed"), await makeKey("RS256", "rsa")];

test("Ed25519 and RSA keys verify side by side, and keys for others do not matter", async () => {
  const elliptic = { kty: "EC", crv: "P-256", x: "AA", y: "AA", kid: "ec" };
  const issuer = await startIssuer(ed.publicJwk, elliptic, rsa.publicJwk);
  const { verify, ready } = open(issuer.url);
  await ready;
  for (const { authorization } of [ed, rsa, ed]) expect(await verify(authorization)).toMatchObject({ subject: "s" });
  expect(issuer.fetches).toBe(1);
});

test("a key not seen before is fetched for, once per cooldown however many tokens name it", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const issuer = await startIssuer(ed.publicJwk);
  const { verify, ready } = open(issuer.url);
  await ready;
  issuer.keys = [ed.publicJwk, rsa.publicJwk];
  await expect(verify(rsa.authorization)).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
  expect(issuer.fetches).toBe(1);
  vi.advanceTimersByTime(30_001);
  expect(await verify(rsa.authorization)).toMatchObject({ subject: "s" });
  expect(issuer.fetches).toBe(2);

  const stranger = await makeKey("EdDSA", "stranger");
  const storm = () => Promise.allSettled(Array.from({ length: 50 }, () => verify(stranger.authorization)));
  await storm();
  expect(issuer.fetches).toBe(2);
  vi.advanceTimersByTime(30_001);
  await storm();
  await storm();
  expect(issuer.fetches).toBe(3);
  expect(await verify(ed.authorization)).toMatchObject({ subject: "s" });
});

test("the bound on fetches holds while the issuer fails", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const issuer = await startIssuer(ed.publicJwk);
  const { verify, ready } = open(issuer.url, { retryMs: 60_000 });
  await ready;
  vi.advanceTimersByTime(30_001);
  issuer.answer = (_, response) => response.writeHead(500).end();
  const stranger = await makeKey("EdDSA", "stranger");
  for (let i = 0; i < 5; i++) {
    await Promise.allSettled(Array.from({ length: 10 }, () => verify(stranger.authorization)));
  }
  expect(issuer.fetches).toBe(2);
});

test("keys rotate in the background: the old one is out without any call that asks", async () => {
  const issuer = await startIssuer(ed.publicJwk);
  const { verify, ready } = open(issuer.url, { refreshMs: 50 });
  await ready;
  await verify(ed.authorization);
  issuer.keys = [rsa.publicJwk];
  await expect.poll(() => outcomeOf(verify(rsa.authorization)), PATIENCE).toBe("OK");
  await expect(verify(ed.authorization)).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
});

test("before the first fetch tokens are refused with a reason that says to retry, and it goes on trying", async () => {
  const issuer = await startIssuer(ed.publicJwk);
  const good = issuer.answer;
  issuer.answer = (_, response) => response.writeHead(503).end();
  const { verify, ready, logs } = open(issuer.url, { retryMs: 50 });
  await expect(verify(ed.authorization)).rejects.toMatchObject({ reason: "KEYS_UNAVAILABLE", retryDelayMs: 500 });
  await expect.poll(() => issuer.fetches, PATIENCE).toBeGreaterThan(2);
  issuer.answer = good;
  await ready;
  expect(await verify(ed.authorization)).toMatchObject({ subject: "s" });
  expect(logs[0]).toMatchObject({ level: "error", err: { message: "the answer is 503" } });
  expect(logs.at(-1)).toMatchObject({ msg: "verification keys fetched again" });
});

test("while the issuer is away the last keys stay in force, for so long and no longer", async () => {
  vi.useFakeTimers({ toFake: ["performance"] });
  const issuer = await startIssuer(ed.publicJwk);
  const { verify, ready } = open(issuer.url, { refreshMs: 30, retryMs: 30 });
  await ready;
  const good = issuer.answer;
  issuer.answer = (request) => request.socket.destroy();
  const before = issuer.fetches;
  await expect.poll(() => issuer.fetches, PATIENCE).toBeGreaterThan(before + 1);
  vi.advanceTimersByTime(3_500_000);
  expect(await outcomeOf(verify(ed.authorization))).toBe("OK");
  vi.advanceTimersByTime(200_000);
  expect(await outcomeOf(verify(ed.authorization))).toBe("KEYS_UNAVAILABLE");
  issuer.answer = good;
  await expect.poll(() => outcomeOf(verify(ed.authorization)), PATIENCE).toBe("OK");
});

/** With these in force, the tokens below would be refused. */
const OTHER_KEYS = JSON.stringify({ keys: [rsa.publicJwk] });

test.each<[string, RequestListener]>([
  ["no JSON", (_, response) => response.end("<html>")],
  ["no keys", (_, response) => response.end('{"keys":[]}')],
  ["keys for others alone", (_, response) => response.end('{"keys":[{"kty":"oct","k":"AAAA"}]}')],
  ["a private key", (_, response) => response.end(JSON.stringify({ keys: [{ ...ed.publicJwk, d: "AAAA" }] }))],
  [
    "a redirect to other keys",
    ({ url }, response) => {
      if (url === "/other") response.end(OTHER_KEYS);
      else response.writeHead(302, { location: "/other" }).end();
    },
  ],
  ["more than anyone needs", (_, response) => response.end(OTHER_KEYS + " ".repeat(2_000_000))],
  ["silence", () => {}],
])("an answer that is not usable (%s) leaves the last keys in force", async (_, answer) => {
  const issuer = await startIssuer(ed.publicJwk);
  const { verify, ready, logs } = open(issuer.url, { refreshMs: 30, timeoutMs: 150 });
  await ready;
  issuer.answer = answer;
  await expect.poll(() => logs, PATIENCE).toContainEqual(expect.objectContaining({ level: "error" }));
  expect(await verify(ed.authorization)).toMatchObject({ subject: "s" });
});

test("closed, it fetches no more", async () => {
  const issuer = await startIssuer(ed.publicJwk);
  const { verify, ready, close } = open(issuer.url, { refreshMs: 10, cooldownMs: 0 });
  await ready;
  close();
  await new Promise((resolve) => setTimeout(resolve, 50));
  const { fetches } = issuer;
  await expect(verify(rsa.authorization)).rejects.toMatchObject({ reason: "TOKEN_INVALID" });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(issuer.fetches).toBe(fetches);
});

test("a server is not ready, and refuses tokens, until its issuer answers", async () => {
  const issuer = await startIssuer(ed.publicJwk);
  const good = issuer.answer;
  const waiting: (() => void)[] = [];
  issuer.answer = (request, response) => waiting.push(() => good(request, response));
  const mesh = await startTestServer({}, { authJwksUrl: issuer.url });
  const client = await mesh.client({ token: ed.token });
  const outcome = async () => {
    try {
      return (await client.getModel({})).modelChecksum;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      return error.reason;
    }
  };
  const readiness = async () => (await fetch(`http://127.0.0.1:${mesh.server.managementPort}/readyz`)).status;
  expect([await outcome(), await readiness()]).toEqual(["KEYS_UNAVAILABLE", 503]);
  await vi.waitUntil(() => waiting.length > 0);
  for (const answer of waiting) answer();
  await expect.poll(readiness, PATIENCE).toBe(200);
  expect(await outcome()).toBe("test");
});
