import { X509Certificate } from "node:crypto";
import { resolve } from "node:path";
import { createSecureContext } from "node:tls";
import type { TlsOptions } from "../client.ts";
import { readBoundedFile } from "../json-file.ts";
import { LocalError } from "../local-error.ts";
import type { GlobalOptions } from "./context.ts";
import { UsageError } from "./failure.ts";

/** Largest PEM file: a bundle of every public authority is a quarter of this. */
const MAX_PEM_BYTES = 1 << 20;

type TlsFlags = Pick<GlobalOptions, "tls" | "tlsCa" | "tlsCert" | "tlsKey" | "tlsServerName">;

/**
 * TLS as the options say; undefined for none. The files are checked here, since a connection would only say that it
 * cannot be made.
 *
 * @throws UsageError OPTIONS_CONFLICT, LocalError FILE_NOT_FOUND, FILE_TOO_LARGE, FILE_INVALID
 */
export async function readTlsFiles(flags: TlsFlags, cwd: string): Promise<TlsOptions | undefined> {
  const { tls, tlsCa, tlsCert, tlsKey, tlsServerName } = flags;
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

function check(file: string | undefined, what: string, read: () => unknown): void {
  try {
    read();
  } catch (error) {
    const why = (error as Error).message;
    throw new LocalError("FILE_INVALID", `${file} is not the PEM of a ${what}: ${why}`, { cause: error });
  }
}
