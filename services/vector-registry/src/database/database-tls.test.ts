import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, connect as dial, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TLSSocket } from "node:tls";
import { type DevCertificate, ensureDevAuthority, ensureDevCertificate } from "@persona-mesh/service";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTestDatabase, type TestDatabase } from "../testing/test-database.ts";
import { connectDatabase } from "./connect.ts";

let database: TestDatabase;
let folder: string;
let certificate: DevCertificate;
let front: Server;
const sockets = new Set<Socket>();

beforeAll(async () => {
  database = await openTestDatabase();
  folder = mkdtempSync(join(tmpdir(), "persona-tls-"));
  certificate = await ensureDevCertificate(join(folder, "right"), "database");
  front = createServer(speakTls);
  await new Promise<void>((resolve) => front.listen(0, "0.0.0.0", resolve));
});
afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  front.close();
  rmSync(folder, { recursive: true });
  await database.close();
});

/** A server with TLS in front of the one behind the socket, as PostgreSQL starts it: a plain request, then the handshake. */
function speakTls(socket: Socket): void {
  sockets.add(socket);
  socket.on("error", () => socket.destroy());
  socket.once("data", () => {
    socket.write("S");
    const secured = new TLSSocket(socket, {
      isServer: true,
      cert: readFileSync(certificate.certFile),
      key: readFileSync(certificate.keyFile),
      ca: readFileSync(certificate.caFile),
      requestCert: true,
      rejectUnauthorized: false,
    });
    const behind = dial(join(new URL(database.url).searchParams.get("host") ?? "", ".s.PGSQL.5432"));
    for (const end of [secured, behind]) end.on("error", () => socket.destroy()).on("close", () => socket.destroy());
    sockets.add(behind);
    secured.pipe(behind).pipe(secured);
    clientNames.length = 0;
    secured.once("secure", () => clientNames.push(secured.getPeerCertificate().subject?.CN));
  });
}

const clientNames: unknown[] = [];

async function user(host: string, parameters: string): Promise<unknown> {
  const address = front.address() as { port: number };
  const url = new URL(database.url);
  const pool = connectDatabase({
    url: `postgresql://${url.username}:${url.password}@${host}:${address.port}${url.pathname}?${parameters}`,
    role: "persona_watch",
  });
  try {
    return (await sql<{ who: string }>`SELECT current_user AS who`.execute(pool.db)).rows[0]?.who;
  } finally {
    await pool.close();
  }
}

test("a server whose certificate comes from the named authority and bears the host's name is taken", async () => {
  const trusted = `sslrootcert=${certificate.caFile}`;
  expect(await user("localhost", trusted)).toBe("persona_watch");
  expect(await user("127.0.0.1", `sslmode=verify-full&${trusted}`)).toBe("persona_watch");
});

test("one of another authority, or of another name, is refused before anything is said to it", async () => {
  const stranger = await ensureDevAuthority(join(folder, "wrong"));
  await expect(user("localhost", `sslrootcert=${stranger}`)).rejects.toThrow(/certificate|signature/);
  await expect(user("localhost", "sslmode=verify-full")).rejects.toThrow(/certificate/);
  // The certificate is for 127.0.0.1 and localhost.
  await expect(user("127.0.0.2", `sslrootcert=${certificate.caFile}`)).rejects.toMatchObject({
    code: "ERR_TLS_CERT_ALTNAME_INVALID",
  });
});

test("a certificate of ours is shown where the URL names one", async () => {
  const trusted = `sslrootcert=${certificate.caFile}`;
  await user("localhost", trusted);
  expect(clientNames).toEqual([undefined]);
  await user("localhost", `${trusted}&sslcert=${certificate.certFile}&sslkey=${certificate.keyFile}`);
  expect(clientNames).toEqual(["database"]);
});
