import { execFile } from "node:child_process";
import { chmod, mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { captureLogs } from "../testing/test-server.ts";
import { ensureDevKeys, signDevToken } from "./dev-keys.ts";
import { openJwksFile } from "./jwks-file.ts";
import { createTokenVerifier } from "./token-verifier.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-keys-"));
});

afterEach(() => rm(folder, { recursive: true }));

test("the first start makes a key, later starts use it, and its tokens verify", async () => {
  const first = await ensureDevKeys(folder);
  const second = await ensureDevKeys(folder);
  expect(second).toEqual(first);
  const verify = createTokenVerifier(await openJwksFile(first.jwksFile, captureLogs().log), {
    issuer: "persona-mesh-dev",
    audience: "persona-mesh",
  });
  const claims = { subject: "ada", tenant: "acme", roles: ["viewer", "admin"] } as const;
  const caller = await verify([`Bearer ${await signDevToken(first, claims)}`]);
  expect({ ...caller, roles: [...caller.roles] }).toEqual({
    subject: "ada",
    tenant: "acme",
    roles: ["viewer", "admin"],
  });
  const expired = await signDevToken(first, { ...claims, ttlSeconds: -60 });
  await expect(verify([`Bearer ${expired}`])).rejects.toMatchObject({ reason: "TOKEN_EXPIRED" });
});

test("the private key is for this user only, the public file has none of it, and nothing is left behind", async () => {
  const { jwksFile, privateJwk } = await ensureDevKeys(folder);
  const keys = join(folder, "dev-keys");
  expect((await readdir(keys)).sort()).toEqual(["jwks.json", "private.jwk.json"]);
  expect((await stat(keys)).mode & 0o777).toBe(0o700);
  expect((await stat(join(keys, "private.jwk.json"))).mode & 0o777).toBe(0o600);
  expect(await readFile(jwksFile, "utf8")).not.toContain(String(privateJwk.d));
});

test("a private key that others can read is refused", async () => {
  await ensureDevKeys(folder);
  await chmod(join(folder, "dev-keys", "private.jwk.json"), 0o644);
  await expect(ensureDevKeys(folder)).rejects.toMatchObject({ reason: "CONFIG_INVALID" });
});

test("processes that start at once agree on one key", async () => {
  const module = new URL("./dev-keys.ts", import.meta.url).href;
  const script = `import { ensureDevKeys } from ${JSON.stringify(module)};
    process.stdout.write((await ensureDevKeys(${JSON.stringify(folder)})).privateJwk.kid);`;
  const start = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", script]);
  const kids = (await Promise.all(Array.from({ length: 4 }, start))).map(({ stdout }) => stdout);
  expect(kids[0]).toMatch(/^[\w-]{43}$/);
  expect(new Set(kids).size).toBe(1);
});

test("callers within one process that start at once agree on one key", async () => {
  const all = await Promise.all(Array.from({ length: 20 }, () => ensureDevKeys(folder)));
  expect(new Set(all.map(({ privateJwk }) => privateJwk.kid)).size).toBe(1);
});
