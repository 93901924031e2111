import { createPrivateKey, randomBytes, webcrypto, X509Certificate } from "node:crypto";
import { isIP } from "node:net";

/**
 * Making certificates, for development: production brings its own. The library for it is large and only loaded when a
 * certificate is due.
 *
 * Everything here is PEM, key and certificate in one text: written in one step, they always belong together. OpenSSL,
 * Node and Go read such a file as either.
 */

/** An authority that signs leaves only; valid for ten years, because who trusts it once would have to trust it again. */
export async function makeAuthority(): Promise<string> {
  const { x509, keys, serialNumber } = await prepare();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber,
    name: "CN=persona-mesh development authority",
    notBefore: new Date(Date.now() - BACKDATE_MS),
    notAfter: new Date(Date.now() + AUTHORITY_LIFETIME_MS),
    keys,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return (await keyText(keys.privateKey)) + pemText(certificate.toString("pem"));
}

export interface LeafNames {
  readonly commonName: string;
  /** SPIFFE id. */
  readonly uri: string;
  /** DNS names and IP addresses. */
  readonly hosts: readonly string[];
}

/** A certificate with its key, for servers and clients, by an authority that {@link makeAuthority} made. */
export async function issueLeaf(authority: string, names: LeafNames): Promise<string> {
  const { x509, keys, serialNumber } = await prepare();
  const issuer = new x509.X509Certificate(new X509Certificate(authority).raw);
  const issuerKey = await webcrypto.subtle.importKey(
    "pkcs8",
    createPrivateKey(authority).export({ type: "pkcs8", format: "der" }),
    CURVE,
    false,
    ["sign"],
  );
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber,
    subject: `CN=${names.commonName}`,
    issuer: issuer.subjectName,
    notBefore: new Date(Date.now() - BACKDATE_MS),
    notAfter: new Date(Date.now() + LEAF_LIFETIME_MS),
    publicKey: keys.publicKey,
    signingKey: issuerKey,
    signingAlgorithm: SIGNATURE,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension([
        ...names.hosts.map((host) => ({ type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host })),
        { type: "url" as const, value: names.uri },
      ]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return (await keyText(keys.privateKey)) + pemText(certificate.toString("pem"));
}

/** Short: a leaked key of development is soon worthless. Longer than a night, over which a machine may sleep. */
export const LEAF_LIFETIME_MS = 24 * 3600_000;

const AUTHORITY_LIFETIME_MS = 10 * 365 * 24 * 3600_000;

/** Clocks of containers and virtual machines lag after they were suspended. */
const BACKDATE_MS = 5 * 60_000;

/** Small, fast, and accepted by every TLS stack. */
const CURVE = { name: "ECDSA", namedCurve: "P-256" };
const SIGNATURE = { name: "ECDSA", hash: "SHA-256" };

async function prepare() {
  // The library needs this addition to the language's Reflect.
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  const keys = await webcrypto.subtle.generateKey(CURVE, true, ["sign", "verify"]);
  // Positive and at most 20 bytes, as the standard demands.
  const serial = randomBytes(16);
  serial[0] = (serial[0] ?? 0) & 0x7f || 1;
  return { x509, keys, serialNumber: serial.toString("hex") };
}

async function keyText(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", key));
  return String(createPrivateKey({ key: der, format: "der", type: "pkcs8" }).export({ type: "pkcs8", format: "pem" }));
}

function pemText(pem: string): string {
  return pem.endsWith("\n") ? pem : `${pem}\n`;
}
