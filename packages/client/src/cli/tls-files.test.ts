import { generateKeyPairSync } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { readTlsFiles } from "./tls-files.ts";

const [CERTIFICATE = ""] = rootCertificates;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "persona-tls-"));
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  await writeFile(join(folder, "cert.pem"), CERTIFICATE);
  await writeFile(join(folder, "other.key"), privateKey.export({ type: "pkcs8", format: "pem" }));
  await writeFile(join(folder, "text"), "no PEM");
});
afterAll(() => rm(folder, { recursive: true }));

describe("readTlsFiles", () => {
  it("is none without an option, and trusts the system with --tls alone", async () => {
    expect(await readTlsFiles({}, folder)).toBeUndefined();
    expect(await readTlsFiles({ tls: true }, folder)).toEqual({});
  });

  it("reads files beside the command's folder", async () => {
    expect(await readTlsFiles({ tlsCa: "cert.pem", tlsServerName: "worker" }, folder)).toEqual({
      ca: CERTIFICATE,
      serverName: "worker",
    });
  });

  it.each([
    ["a missing file", { tlsCa: "none.pem" }, "FILE_NOT_FOUND"],
    ["authorities that are no certificate", { tlsCa: "other.key" }, "FILE_INVALID"],
    ["a certificate that is no PEM", { tlsCert: "text", tlsKey: "other.key" }, "FILE_INVALID"],
    ["a key that is no PEM", { tlsCert: "cert.pem", tlsKey: "text" }, "FILE_INVALID"],
    ["a key of another certificate", { tlsCert: "cert.pem", tlsKey: "other.key" }, "FILE_INVALID"],
    ["a key alone", { tlsKey: "other.key" }, "OPTIONS_CONFLICT"],
    ["a server name without TLS", { tlsServerName: "worker" }, "OPTIONS_CONFLICT"],
  ])("refuses %s", async (_, flags, reason) => {
    await expect(readTlsFiles(flags, folder)).rejects.toMatchObject({ reason });
  });
});
