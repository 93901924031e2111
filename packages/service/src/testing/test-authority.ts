import { webcrypto } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import "reflect-metadata";
import * as x509 from "@peculiar/x509";

/** Makes certificates as tests want them, good ones and hostile ones; nothing of what the mesh issues is used. */
export interface TestAuthority {
  readonly certificate: string;
  issue(leaf?: TestLeaf): Promise<IssuedLeaf>;
}

export interface TestLeaf {
  readonly uris?: readonly string[];
  readonly dns?: readonly string[];
  /** Seconds from now. @default an hour ago */
  readonly startsIn?: number;
  /** Seconds from now. @default in an hour */
  readonly endsIn?: number;
  readonly isAuthority?: boolean;
  readonly usages?: readonly string[];
}

export interface IssuedLeaf {
  readonly cert: string;
  readonly key: string;
  /** DER */
  readonly raw: Buffer;
}

export const INFERENCE_ID = "spiffe://persona-mesh/ns/persona-mesh/sa/inference";

const ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };

export async function makeTestAuthority(name = "test authority"): Promise<TestAuthority> {
  const keys = await newKeys();
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: `CN=${name}`,
    keys,
    ...validity({}),
    signingAlgorithm: ALGORITHM,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  });
  return {
    certificate: authority.toString("pem"),
    issue: async (leaf = {}) => {
      const own = await newKeys();
      return issued(
        await x509.X509CertificateGenerator.create({
          subject: "CN=leaf",
          issuer: authority.subjectName,
          publicKey: own.publicKey,
          signingKey: keys.privateKey,
          signingAlgorithm: ALGORITHM,
          ...validity(leaf),
          extensions: extensionsOf(leaf),
        }),
        own,
      );
    },
  };
}

/** A certificate that nobody vouches for. */
export async function makeSelfSigned(leaf: TestLeaf): Promise<IssuedLeaf> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: "CN=self",
    keys,
    ...validity(leaf),
    signingAlgorithm: ALGORITHM,
    extensions: extensionsOf(leaf),
  });
  return issued(certificate, keys);
}

/** Write PEM files as TLS options name them. */
export async function writeTls(
  folder: string,
  { cert, key }: IssuedLeaf,
  ca?: string,
): Promise<{ certFile: string; keyFile: string; caFile: string }> {
  const files = { certFile: join(folder, "crt.pem"), keyFile: join(folder, "key.pem"), caFile: join(folder, "ca.pem") };
  await writeFile(files.certFile, cert);
  await writeFile(files.keyFile, key);
  if (ca !== undefined) await writeFile(files.caFile, ca);
  return files;
}

function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ["sign", "verify"]);
}

function validity({ startsIn = -3600, endsIn = 3600 }: TestLeaf) {
  return { notBefore: new Date(Date.now() + startsIn * 1000), notAfter: new Date(Date.now() + endsIn * 1000) };
}

function extensionsOf({ uris = [INFERENCE_ID], dns = ["localhost"], isAuthority = false, usages }: TestLeaf) {
  const hosts = dns.map((value) => ({ type: "dns" as const, value }));
  const local = dns.includes("localhost") ? [{ type: "ip" as const, value: "127.0.0.1" }] : [];
  const names = [...hosts, ...local, ...uris.map((value) => ({ type: "url" as const, value }))];
  return [
    new x509.BasicConstraintsExtension(isAuthority, undefined, true),
    ...(usages === undefined ? [] : [new x509.ExtendedKeyUsageExtension([...usages])]),
    ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
  ];
}

async function issued(certificate: x509.X509Certificate, keys: webcrypto.CryptoKeyPair): Promise<IssuedLeaf> {
  const key = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return {
    cert: certificate.toString("pem"),
    key: `-----BEGIN PRIVATE KEY-----\n${key}\n-----END PRIVATE KEY-----\n`,
    raw: Buffer.from(certificate.rawData),
  };
}
