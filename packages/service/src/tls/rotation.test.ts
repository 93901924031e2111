import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pipeline } from "node:stream";
import { connect } from "node:tls";
import { credentials } from "@grpc/grpc-js";
import { InferenceService } from "@persona-mesh/protocol";
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from "vitest";
import { createClient } from "../grpc/client.ts";
import { type IssuedLeaf, makeTestAuthority, type TestAuthority, writeTls } from "../testing/test-authority.ts";
import { captureLogs, startTestServer, type TestServer } from "../testing/test-server.ts";
import { serviceId } from "./service-identity.ts";
import { openTlsFiles, type TlsSource } from "./tls-source.ts";

let folder: string;
let authority: TestAuthority;

beforeEach(async () => {
  // Files are looked at on an interval: the tests make its time pass, and nothing else's.
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  folder = await mkdtemp(join(tmpdir(), "persona-rotation-"));
  authority = await makeTestAuthority();
});

afterEach(async () => {
  vi.useRealTimers();
  await rm(folder, { recursive: true });
});

const token = (text: string) => ({ event: { case: "tokens" as const, value: { text } } });

/** A live server whose streams go on until told to end, and the files of its certificate. */
async function startRotating() {
  const first = await authority.issue({ uris: [] });
  const files = await writeTls(folder, first, authority.certificate);
  let finish = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const mesh = await startTestServer(
    {
      async *generate(_, { caller, signal }) {
        yield token(caller.subject);
        await Promise.race([finished, once(signal, "abort")]);
        yield token("last");
      },
      getModel: async (_, { caller }) => ({ modelChecksum: caller.subject }),
    },
    {
      tlsCertFile: files.certFile,
      tlsKeyFile: files.keyFile,
      tlsClientCaFile: files.caFile,
      tlsClientCertificates: "optional",
    },
  );
  return { mesh, first, files, finish };
}

/** The certificate that a new connection gets. */
function presented(mesh: TestServer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(
      { host: "127.0.0.1", port: mesh.server.port, ca: authority.certificate, ALPNProtocols: ["h2"] },
      () => {
        resolve(socket.getPeerX509Certificate()?.serialNumber ?? "");
        socket.destroy();
      },
    );
    socket.on("error", reject);
  });
}

const serial = ({ raw }: IssuedLeaf) => new X509Certificate(raw).serialNumber;

/** In front of a server, to see the connections that a client holds. */
async function startRelay(port: number): Promise<{ address: string; connections: Set<Socket> }> {
  const connections = new Set<Socket>();
  const relay = createServer((incoming) => {
    connections.add(incoming);
    incoming.on("close", () => connections.delete(incoming));
    pipeline(incoming, connectTcp(port, "127.0.0.1"), incoming, () => {});
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    for (const connection of connections) connection.destroy();
    relay.close();
  });
  return { address: `127.0.0.1:${(relay.address() as AddressInfo).port}`, connections };
}

/** As tools do that replace a file. */
async function replace(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

/** Polls while seconds pass. */
function soon<Value>(look: () => Value | Promise<Value>) {
  const passing = () => {
    vi.advanceTimersByTime(1_000);
    return look();
  };
  return expect.poll(passing, { timeout: 10_000, interval: 20 });
}

describe("a live server", () => {
  test("presents a new certificate to new connections; old ones, with their streams, go on", async () => {
    const { mesh, first, files, finish } = await startRotating();
    const client = createClient(
      InferenceService,
      mesh.server.address,
      credentials.createSsl(Buffer.from(authority.certificate)),
      { token: await mesh.token() },
    );
    onTestFinished(client.close);
    const stream = client.generate({})[Symbol.asyncIterator]();
    await stream.next();
    expect(await presented(mesh)).toBe(serial(first));

    const second = await authority.issue({ uris: [] });
    await replace(files.certFile, second.cert);
    await replace(files.keyFile, second.key);
    await soon(() => presented(mesh)).toBe(serial(second));
    finish();
    expect((await stream.next()).value).toMatchObject(token("last"));
    expect((await client.getModel({})).modelChecksum).toBe("tester");
  });

  test.each([
    ["a key of another certificate", async (files: Files) => replace(files.keyFile, (await authority.issue()).key)],
    ["a certificate that is none", (files: Files) => replace(files.certFile, "none")],
    ["a file that is gone", (files: Files) => rm(files.keyFile)],
    ["authorities that are none", (files: Files) => replace(files.caFile, "none")],
  ])("keeps the old one, and says so once: %s", async (_, breakFiles) => {
    const { mesh, first, files } = await startRotating();
    await breakFiles(files);
    const errors = () => mesh.logs.filter(({ level }) => level === "error");
    await soon(errors).toHaveLength(1);
    expect(errors()[0]).toMatchObject({ msg: "TLS files not reloaded; the previous stay in force" });
    for (let seconds = 0; seconds < 5; seconds++) {
      vi.advanceTimersByTime(1_000);
      expect(await presented(mesh)).toBe(serial(first));
    }
    expect(errors()).toHaveLength(1);
    const leaf = await authority.issue();
    const security = credentials.createSsl(
      Buffer.from(authority.certificate),
      Buffer.from(leaf.key),
      Buffer.from(leaf.cert),
    );
    const client = createClient(InferenceService, mesh.server.address, security);
    onTestFinished(client.close);
    expect((await client.getModel({})).modelChecksum).toContain("spiffe://");

    // Mended, it is taken up.
    const second = await authority.issue({ uris: [] });
    await writeTls(folder, second, authority.certificate);
    await soon(() => presented(mesh)).toBe(serial(second));
    expect(errors().length).toBeLessThanOrEqual(2);
  });

  test("trusts the clients of a new authority, and no longer those of the old one", async () => {
    const { mesh, files } = await startRotating();
    const next = await makeTestAuthority("next");
    const outcome = async (leaf: IssuedLeaf) => {
      const security = credentials.createSsl(
        Buffer.from(authority.certificate),
        Buffer.from(leaf.key),
        Buffer.from(leaf.cert),
      );
      using client = createClient(InferenceService, mesh.server.address, security);
      return await client.getModel({}).then(
        () => "OK",
        (error: { reason: string }) => error.reason,
      );
    };
    const [old, fresh] = [await authority.issue(), await next.issue()];
    expect([await outcome(old), await outcome(fresh)]).toEqual(["OK", "TOKEN_MISSING"]);
    await replace(files.caFile, next.certificate);
    await soon(async () => [await outcome(old), await outcome(fresh)]).toEqual(["TOKEN_MISSING", "OK"]);
  });
});

interface Files {
  readonly certFile: string;
  readonly keyFile: string;
  readonly caFile: string;
}

describe("a client", () => {
  const named = (instance: string) =>
    authority.issue({ uris: [serviceId("persona-mesh", "inference", instance)], dns: [] });

  async function openClientFiles(leaf: IssuedLeaf): Promise<{ source: TlsSource; path: string; logs: unknown[] }> {
    // Both in one file, as the development authority writes them: they change in one step.
    const path = join(folder, "client.pem");
    await writeFile(path, leaf.key + leaf.cert);
    const { logs, log } = captureLogs();
    const caFile = join(folder, "ca.pem");
    const source = await openTlsFiles({ certFile: path, keyFile: path, caFile }, log);
    onTestFinished(source.close);
    return { source, path, logs };
  }

  test("calls with a new certificate once there is one, while streams of the old connection go on", async () => {
    const { mesh, finish } = await startRotating();
    const { source, path } = await openClientFiles(await named("first"));
    const relay = await startRelay(mesh.server.port);
    const client = createClient(InferenceService, relay.address, source);
    onTestFinished(client.close);
    const stream = client.generate({})[Symbol.asyncIterator]();
    const opened = await stream.next();
    expect(opened.value).toMatchObject(token("spiffe://persona-mesh/ns/persona-mesh/sa/inference/first"));
    expect((await client.getModel({})).modelChecksum).toMatch(/\/first$/);

    const next = await named("second");
    await replace(path, next.key + next.cert);
    await soon(async () => (await client.getModel({})).modelChecksum).toMatch(/\/second$/);
    expect(relay.connections.size).toBe(2);
    finish();
    expect((await stream.next()).value).toMatchObject(token("last"));
    expect((await stream.next()).done).toBe(true);
    await soon(() => relay.connections.size).toBe(1);

    const third = await named("third");
    await replace(path, third.key + third.cert);
    await soon(async () => (await client.getModel({})).modelChecksum).toMatch(/\/third$/);
    await soon(() => relay.connections.size).toBe(1);
  });

  test("keeps its certificate when the new one is broken", async () => {
    const { mesh } = await startRotating();
    const { source, path, logs } = await openClientFiles(await named("first"));
    const client = createClient(InferenceService, mesh.server.address, source);
    onTestFinished(client.close);
    await replace(path, (await named("second")).cert);
    await soon(() => logs).toContainEqual(expect.objectContaining({ level: "error" }));
    expect((await client.getModel({})).modelChecksum).toMatch(/\/first$/);
  });

  test("closed, it leaves no connection of any generation behind", async () => {
    const { mesh } = await startRotating();
    const { source, path } = await openClientFiles(await named("first"));
    const client = createClient(InferenceService, mesh.server.address, source);
    const stream = client.generate({})[Symbol.asyncIterator]();
    await stream.next();
    const next = await named("second");
    await replace(path, next.key + next.cert);
    await soon(async () => (await client.getModel({})).modelChecksum).toMatch(/\/second$/);
    const rest = expect(stream.next()).rejects.toMatchObject({ reason: "CANCELLED" });
    client.close();
    await rest;
    await soon(() => mesh.server.runningCalls).toBe(0);
    await expect(client.getModel({})).rejects.toMatchObject({ name: "ClientError" });
  });
});
