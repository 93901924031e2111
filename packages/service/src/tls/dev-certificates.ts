import { createPrivateKey, X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { ServiceError } from "../errors/service-error.ts";
import { createPrivate, readPrivate, writeWhole } from "../private-files.ts";
import { issueLeaf, LEAF_LIFETIME_MS, makeAuthority } from "./dev-authority.ts";
import { DEFAULT_TRUST_DOMAIN, serviceId } from "./service-identity.ts";

/** Files of one side of TLS, PEM. */
export interface DevCertificate {
  /** The development authority, to be trusted on both sides. */
  readonly caFile: string;
  /** Certificate and key are one file, so that they change in one step. */
  readonly certFile: string;
  readonly keyFile: string;
  /** When {@link ensureDevCertificate} is to be called again, in milliseconds since the epoch. */
  readonly renewAt: number;
}

export interface DevCertificateOptions {
  /** DNS names and IP addresses beside those of this machine: `localhost`, `127.0.0.1`, `::1`. */
  readonly hosts?: readonly string[];
  /** @default "persona-mesh", as the service option trustDomain */
  readonly trustDomain?: string;
}

/**
 * A certificate of the development authority in a folder, for a service of that name, as server and as client. Authority
 * and certificate are made when there are none, and the certificate anew in the last third of its life. Safe for several
 * processes that start at once. Anyone who can read the folder can be any service, so it is for this user only.
 *
 * @throws ServiceError CONFIG_INVALID when the folder cannot be used or its keys are readable by others
 */
export async function ensureDevCertificate(
  dataDir: string,
  service: string,
  { hosts = [], trustDomain = DEFAULT_TRUST_DOMAIN }: DevCertificateOptions = {},
): Promise<DevCertificate> {
  const { folder, caFile, authority } = await ensureAuthority(dataDir);
  const file = join(folder, "services", `${service}.pem`);
  try {
    await mkdir(join(folder, "services"), { recursive: true, mode: 0o700 });
    const uri = serviceId(trustDomain, service);
    const present = readLeaf(await readPrivate(file), authority);
    const wanted = new Set([...LOCAL_HOSTS, ...hosts]);
    const renewAt = present === undefined ? 0 : renewalOf(present);
    if (present !== undefined && Date.now() < renewAt && names(present, uri, wanted)) {
      return { caFile, certFile: file, keyFile: file, renewAt };
    }
    // Processes of one service share the file: none may take away a name that another needs.
    for (const host of present === undefined ? [] : hostsOf(present)) wanted.add(host);
    const leaf = await issueLeaf(authority, { commonName: service, uri, hosts: [...wanted] });
    await writeWhole(file, leaf, 0o600);
    return { caFile, certFile: file, keyFile: file, renewAt: renewalOf(new X509Certificate(leaf)) };
  } catch (error) {
    throw unusable(folder, error);
  }
}

/**
 * The certificate of the development authority, for clients that trust its servers; made when there is none.
 *
 * @throws ServiceError CONFIG_INVALID
 */
export async function ensureDevAuthority(dataDir: string): Promise<string> {
  return (await ensureAuthority(dataDir)).caFile;
}

const LOCAL_HOSTS = ["localhost", "127.0.0.1", "::1"];

async function ensureAuthority(dataDir: string) {
  const folder = join(dataDir, "dev-ca");
  const privateFile = join(folder, "ca-key.pem");
  const caFile = join(folder, "ca.pem");
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const authority = (await readPrivate(privateFile)) ?? (await createPrivate(privateFile, await makeAuthority()));
    createPrivateKey(authority);
    // Derived from the private file, so every process writes the same bytes.
    const certificate = new X509Certificate(authority).toString();
    if ((await readFile(caFile, "utf8").catch(() => undefined)) !== certificate) {
      await writeWhole(caFile, certificate, 0o644);
    }
    return { folder, caFile, authority };
  } catch (error) {
    throw unusable(folder, error);
  }
}

function unusable(folder: string, error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  const why = (error as Error).message;
  return new ServiceError("CONFIG_INVALID", `dataDir: no development certificates in ${folder}: ${why}`, {
    cause: error,
  });
}

/** A leaf that is whole and of this authority; any other is made anew. */
function readLeaf(text: string | undefined, authority: string): X509Certificate | undefined {
  if (text === undefined) return undefined;
  try {
    const leaf = new X509Certificate(text);
    const isOurs =
      leaf.verify(new X509Certificate(authority).publicKey) && leaf.checkPrivateKey(createPrivateKey(text));
    return isOurs ? leaf : undefined;
  } catch {
    return undefined;
  }
}

function names(leaf: X509Certificate, uri: string, hosts: ReadonlySet<string>): boolean {
  return (
    leaf.subjectAltName?.split(", ").includes(`URI:${uri}`) === true &&
    [...hosts].every((host) => (isIP(host) === 0 ? leaf.checkHost(host) : leaf.checkIP(host)) !== undefined)
  );
}

function hostsOf(leaf: X509Certificate): string[] {
  const hosts = (leaf.subjectAltName ?? "")
    .split(", ")
    .flatMap((it) => /^(?:DNS|IP Address):(.+)$/.exec(it)?.[1] ?? []);
  return hosts.map((host) => (isIP(host) === 6 ? new URL(`http://[${host}]`).hostname.slice(1, -1) : host));
}

function renewalOf(leaf: X509Certificate): number {
  return leaf.validToDate.getTime() - LEAF_LIFETIME_MS / 3;
}
