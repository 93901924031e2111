import { X509Certificate } from "node:crypto";
import { join, resolve } from "node:path";
import { createSecureContext } from "node:tls";
import type { TlsOptions } from "../channel-credentials.ts";
import { readBoundedFile } from "../json-file.ts";
import { LocalError } from "../local-error.ts";
import type { GlobalOptions } from "./context.ts";
import { UsageError } from "./failure.ts";

/** Largest PEM file: a bundle of every public authority is a quarter of this. */
const MAX_PEM_BYTES = 1 << 20;

type TlsFlags = Pick<GlobalOptions, "tls" | "tlsCa" | "tlsCert" | "tlsKey" | "tlsServerName" | "plaintext">;

/**
 * TLS as the options say; undefined for none. The files are checked here, since a connection would only say that it
 * cannot be made.
 *
 * @throws UsageError OPTIONS_CONFLICT, LocalError FILE_NOT_FOUND, FILE_TOO_LARGE, FILE_INVALID
 */
export async function readTlsFiles(flags: TlsFlags, cwd: string): Promise<TlsOptions | undefined> {
  const { tls, tlsCa, tlsCert, tlsKey, tlsServerName, plaintext } = flags;
  if (plaintext && (tls || [tlsCa, tlsCert, tlsKey, tlsServerName].some((flag) => flag !== undefined))) {
    throw new UsageError("OPTIONS_CONFLICT", "--plaintext excludes the TLS options");
  }
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw new UsageError("OPTIONS_CONFLICT", "--tls-cert and --tls-key go together");
  }
  if (!tls && tlsCa === undefined && tlsCert === undefined) {
    if (tlsServerName === undefined) return undefined;
    throw new UsageError("OPTIONS_CONFLICT", "--tls-server-name needs --tls or --tls-ca");
  }
  const [ca, cert, key] = await Promise.all(
    [tlsCa, tlsCert, tlsKey].map((file) =>
      file === undefined ? undefined : readBoundedFile(resolve(cwd, file), MAX_PEM_BYTES),
    ),
  );
  if (ca !== undefined) check(tlsCa, "certificate", () => new X509Certificate(ca));
  if (cert !== undefined && key !== undefined) {
    check(tlsCert, "certificate", () => new X509Certificate(cert));
    check(tlsKey, "private key of the certificate", () => createSecureContext({ cert, key }));
  }
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(tlsServerName === undefined ? {} : { serverName: tlsServerName }),
  };
}

/** This machine, where a development mesh serves. */
const LOOPBACK = /^(dns:\/\/\/)?(localhost|127(\.\d+){3}|\[::1\])(:\d+)?$/;

/**
 * Trust in the development authority of the data folder, where there is one and the server is on this machine: that is how a
 * development mesh serves.
 *
 * @returns undefined for plain text
 */
export async function developmentTls(
  { plaintext, dataDir }: Pick<GlobalOptions, "plaintext" | "dataDir">,
  address: string,
  cwd: string,
): Promise<TlsOptions | undefined> {
  if (plaintext || !LOOPBACK.test(address)) return undefined;
  const file = join(resolve(cwd, dataDir), "dev-ca", "ca.pem");
  try {
    return { ca: await readBoundedFile(file, MAX_PEM_BYTES) };
  } catch (error) {
    if (error instanceof LocalError && error.reason === "FILE_NOT_FOUND") return undefined;
    throw error;
  }
}

function check(file: string | undefined, what: string, read: () => unknown): void {
  try {
    read();
  } catch (error) {
    const why = (error as Error).message;
    throw new LocalError("FILE_INVALID", `${file} is not the PEM of a ${what}: ${why}`, { cause: error });
  }
}
