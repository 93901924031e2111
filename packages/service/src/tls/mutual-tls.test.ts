import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect as connectHttp2 } from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { InferenceService } from "@persona-mesh/protocol";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Caller } from "../auth/caller.ts";
import { ClientError } from "../errors/client-error.ts";
import { type ClientOptions, createClient } from "../grpc/client.ts";
import {
  INFERENCE_ID,
  type IssuedLeaf,
  makeSelfSigned,
  makeTestAuthority,
  type TestAuthority,
  writeTls,
} from "../testing/test-authority.ts";
import { captureLogs, openTestServer, type TestServer } from "../testing/test-server.ts";
import { openDevTls, type TlsMaterial, type TlsSource } from "./tls-source.ts";

/** The extended key usage of servers, as an object identifier. */
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";

let folder: string;
let authority: TestAuthority;
let required: TestServer;
let optional: TestServer;
const callers: Caller[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-mtls-"));
  authority = await makeTestAuthority();
  const files = await writeTls(folder, await authority.issue({ uris: [] }), authority.certificate);
  const tls = { tlsCertFile: files.certFile, tlsKeyFile: files.keyFile, tlsClientCaFile: files.caFile };
  const handlers = {
    async getModel(_: unknown, { caller }: { caller: Caller }) {
      callers.push(caller);
      return { modelChecksum: "test" };
    },
    // For the role `service` alone.
    async *captureActivations() {
      yield {};
    },
  };
  required = await openTestServer(handlers, tls);
  optional = await openTestServer(handlers, { ...tls, tlsClientCertificates: "optional" });
});

afterEach(() => {
  callers.length = 0;
});

afterAll(async () => {
  await required.close();
  await optional.close();
  await rm(folder, { recursive: true });
});

function material(leaf?: IssuedLeaf, ca = authority.certificate): TlsSource {
  const current: TlsMaterial = {
    ca: Buffer.from(ca),
    ...(leaf && { cert: Buffer.from(leaf.cert), key: Buffer.from(leaf.key) }),
  };
  return { current, onChange: () => {}, close: () => {} };
}

/** The reason with which GetModel fails, or OK. */
async function outcome(mesh: TestServer, leaf: IssuedLeaf | undefined, options: ClientOptions = {}): Promise<string> {
  const client = createClient(InferenceService, mesh.server.address, material(leaf), { timeoutMs: 5_000, ...options });
  onTestFinished(client.close);
  return reasonOf(client.getModel({}));
}

async function reasonOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
    return "OK";
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    return error.reason;
  }
}

test("a certificate with a SPIFFE id makes the call one of that service, in the tenant of the platform", async () => {
  for (const mesh of [required, optional]) expect(await outcome(mesh, await authority.issue())).toBe("OK");
  expect(callers).toEqual(
    Array(2).fill({ subject: INFERENCE_ID, tenant: "platform", roles: new Set(["service"]), service: "inference" }),
  );
  expect(required.logs).toContainEqual(
    expect.objectContaining({ msg: "call ended", subject: INFERENCE_ID, tenant: "platform" }),
  );
});

test("its role is service: methods for that role are open to it", async () => {
  const client = createClient(InferenceService, optional.server.address, material(await authority.issue()));
  onTestFinished(client.close);
  const received: unknown[] = [];
  for await (const message of client.captureActivations({})) received.push(message);
  expect(received).toHaveLength(1);
});

describe("a token beside a certificate decides alone", () => {
  test("a good one makes the call the person's, with the person's roles", async () => {
    const token = await optional.token({ roles: ["viewer"] });
    expect(await outcome(optional, await authority.issue(), { token })).toBe("OK");
    expect(callers).toEqual([{ subject: "tester", tenant: "acme", roles: new Set(["viewer"]) }]);
    const client = createClient(InferenceService, optional.server.address, material(await authority.issue()), {
      token,
    });
    onTestFinished(client.close);
    const capture = client.captureActivations({})[Symbol.asyncIterator]().next();
    expect(await reasonOf(capture)).toBe("PERMISSION_DENIED");
  });

  test("a bad or expired one is refused: the certificate does not step in", async () => {
    const leaf = await authority.issue();
    expect(await outcome(optional, leaf, { token: "noise" })).toBe("TOKEN_INVALID");
    expect(await outcome(optional, leaf, { token: await optional.token({ ttlSeconds: -60 }) })).toBe("TOKEN_EXPIRED");
    // HTTP/2 drops a header that ends in a space, so our client does not send one.
    expect(await outcome(optional, leaf, { token: "" })).toBe("TOKEN_MISSING");
    expect(callers).toEqual([]);
  });

  test("one of the platform's tenant, also with the role service, is no service by name", async () => {
    const token = await optional.token({ tenant: "platform", roles: ["service"], subject: INFERENCE_ID });
    expect(await outcome(optional, undefined, { token })).toBe("OK");
    expect(callers).toEqual([{ subject: INFERENCE_ID, tenant: "platform", roles: new Set(["service"]) }]);
    expect(callers[0]).not.toHaveProperty("service");
  });
});

test("without a certificate, a person connects where certificates are optional, and only there", async () => {
  expect(await outcome(optional, undefined, { token: await optional.token() })).toBe("OK");
  expect(await outcome(optional, undefined)).toBe("TOKEN_MISSING");
  expect(await outcome(required, undefined, { token: await required.token() })).toBe("UNAVAILABLE");
});

describe("a certificate that does not verify is no certificate", () => {
  const hostile: Record<string, () => Promise<IssuedLeaf>> = {
    "of another authority": async () => (await makeTestAuthority("stranger")).issue(),
    "that signed itself": () => makeSelfSigned({}),
    "that has expired": () => authority.issue({ endsIn: -60 }),
    "that is not valid yet": () => authority.issue({ startsIn: 600 }),
    "for servers only": () => authority.issue({ usages: [SERVER_AUTH] }),
  };

  test.each(Object.keys(hostile))("one %s", async (name) => {
    const leaf = await hostile[name]?.();
    expect(await outcome(optional, leaf)).toBe("TOKEN_MISSING");
    expect(await outcome(required, leaf)).toBe("UNAVAILABLE");
    // It is then as if there were none: a token still counts.
    expect(await outcome(optional, leaf, { token: await optional.token() })).toBe("OK");
    expect(callers.map(({ subject }) => subject)).toEqual(["tester"]);
  });

  test("one that only bears our authority's name", async () => {
    const forged = await (await makeTestAuthority()).issue();
    // OpenSSL itself may end such a connection; in no case is it let in.
    expect(["TOKEN_MISSING", "UNAVAILABLE"]).toContain(await outcome(optional, forged));
    expect(await outcome(required, forged)).toBe("UNAVAILABLE");
    expect(callers).toEqual([]);
  });
});

describe("a certificate that verifies but names no service of ours", () => {
  test.each([
    ["no URI", { uris: [] }],
    ["two SPIFFE ids", { uris: [INFERENCE_ID, "spiffe://persona-mesh/ns/persona-mesh/sa/calibrator"] }],
    ["another trust domain", { uris: ["spiffe://elsewhere/ns/persona-mesh/sa/inference"] }],
    ["an authority's", { isAuthority: true }],
  ])("%s", async (_, leaf) => {
    for (const mesh of [required, optional]) {
      expect(await outcome(mesh, await authority.issue(leaf))).toBe("CERTIFICATE_INVALID");
      expect(await outcome(mesh, await authority.issue(leaf), { token: await mesh.token() })).toBe("OK");
    }
  });

  test("the trust domain is the configured one", async () => {
    const data = join(folder, randomUUID());
    await mkdir(data);
    const files = await writeTls(data, await authority.issue({ uris: [] }), authority.certificate);
    const mesh = await openTestServer(
      {},
      {
        tlsCertFile: files.certFile,
        tlsKeyFile: files.keyFile,
        tlsClientCaFile: files.caFile,
        trustDomain: "prod.example.org",
      },
    );
    onTestFinished(mesh.close);
    const ours = await authority.issue({ uris: ["spiffe://prod.example.org/ns/persona-mesh/sa/inference"] });
    expect(await outcome(mesh, ours)).toBe("OK");
    expect(await outcome(mesh, await authority.issue())).toBe("CERTIFICATE_INVALID");
  });
});

test("a certificate that expires on an open connection proves nothing from then on", async () => {
  const client = createClient(
    InferenceService,
    optional.server.address,
    material(await authority.issue({ endsIn: 4 })),
  );
  onTestFinished(client.close);
  expect(await reasonOf(client.getModel({}))).toBe("OK");
  await expect
    .poll(() => reasonOf(client.getModel({})), { timeout: 10_000, interval: 100 })
    .toBe("CERTIFICATE_INVALID");
});

test("a resumed session, which Node calls authorized without looking, gives no identity", async () => {
  const options = { host: "127.0.0.1", port: optional.server.port, ca: authority.certificate, ALPNProtocols: ["h2"] };
  const first = connectTls(options);
  const [session] = (await once(first, "session")) as [Buffer];
  first.destroy();
  const resumed = connectTls({ ...options, session });
  await once(resumed, "secureConnect");
  expect(resumed.isSessionReused()).toBe(true);
  const http2 = connectHttp2(`https://127.0.0.1:${optional.server.port}`, { createConnection: () => resumed });
  onTestFinished(() => http2.destroy());
  const call = http2.request({
    ":method": "POST",
    ":path": "/persona.inference.v1.InferenceService/GetModel",
    "content-type": "application/grpc",
    te: "trailers",
  });
  call.end(Buffer.alloc(5));
  const [headers] = (await once(call, "response")) as [Record<string, string>];
  expect(decodeURIComponent(headers["grpc-message"] ?? "")).toContain("the call has no token");
});

describe("a client that knows which service must answer", () => {
  test("gets through to it, whatever host its certificate names, and not to another", async () => {
    const leaf = await authority.issue({ dns: ["elsewhere"], uris: [INFERENCE_ID] });
    const data = join(folder, randomUUID());
    await mkdir(data);
    const files = await writeTls(data, leaf);
    const mesh = await openTestServer({}, { tlsCertFile: files.certFile, tlsKeyFile: files.keyFile });
    onTestFinished(mesh.close);
    const token = await mesh.token();
    expect(await outcome(mesh, undefined, { token, serverIdentity: { service: "inference" } })).toBe("OK");
    expect(await outcome(mesh, undefined, { token, serverIdentity: { service: "calibrator" } })).toBe("UNAVAILABLE");
    const elsewhere = { service: "inference", trustDomain: "elsewhere" };
    expect(await outcome(mesh, undefined, { token, serverIdentity: elsewhere })).toBe("UNAVAILABLE");
    expect(await outcome(mesh, undefined, { token })).toBe("UNAVAILABLE");
    expect(await outcome(mesh, undefined, { token, serverName: "elsewhere" })).toBe("OK");
  });

  test("still needs the authority: an id that anyone can write proves nothing", async () => {
    const data = join(folder, randomUUID());
    await mkdir(data);
    const files = await writeTls(data, await makeSelfSigned({}));
    const mesh = await openTestServer({}, { tlsCertFile: files.certFile, tlsKeyFile: files.keyFile });
    onTestFinished(mesh.close);
    const token = await mesh.token();
    expect(await outcome(mesh, undefined, { token, serverIdentity: { service: "inference" } })).toBe("UNAVAILABLE");
  });
});

describe("with devTls", () => {
  test("people connect with a token, services with certificates of the same authority, others do not", async () => {
    const mesh = await openTestServer({}, { devTls: true }, { name: "inference" });
    onTestFinished(mesh.close);
    const { address } = mesh.server;
    const calibrator = await openDevTls(mesh.dataDir, "calibrator", captureLogs().log);
    onTestFinished(calibrator.close);
    const { ca = Buffer.of() } = calibrator.current;
    const call = (security: TlsSource, options: ClientOptions = {}) => {
      const client = createClient(InferenceService, address, security, { timeoutMs: 5_000, ...options });
      onTestFinished(client.close);
      return reasonOf(client.getModel({}));
    };
    expect(await call(calibrator, { serverIdentity: { service: "inference" } })).toBe("OK");
    expect(mesh.logs).toContainEqual(
      expect.objectContaining({ subject: "spiffe://persona-mesh/ns/persona-mesh/sa/calibrator" }),
    );
    expect(await call(material(undefined, String(ca)), { token: await mesh.token() })).toBe("OK");
    expect(await call(material(undefined, String(ca)))).toBe("TOKEN_MISSING");
    expect(await call(material(await authority.issue(), String(ca)))).toBe("TOKEN_MISSING");
    expect(await call(material(), { token: await mesh.token() })).toBe("UNAVAILABLE");
  });

  test("in production it makes nothing", async () => {
    const jwks = join(folder, "jwks.json");
    await writeFile(jwks, JSON.stringify({ keys: [{ ...required.keys.privateJwk, d: undefined }] }));
    const mesh = await openTestServer({}, { devTls: true, environment: "production", authJwksFile: jwks });
    onTestFinished(mesh.close);
    const client = await mesh.client({ token: await required.token() });
    expect(await reasonOf(client.getModel({}))).toBe("OK");
  });
});
