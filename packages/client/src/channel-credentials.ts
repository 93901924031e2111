import { type ChannelCredentials, credentials } from "@grpc/grpc-js";

export interface TlsOptions {
  /** Authorities that may sign the server's certificate, PEM. @default the system's */
  readonly ca?: string | Uint8Array;
  /** Our own certificate for mutual TLS, PEM; with `key`. */
  readonly cert?: string | Uint8Array;
  /** Its private key, PEM; with `cert`. */
  readonly key?: string | Uint8Array;
  /** Name that the server's certificate must have. @default the host of the address */
  readonly serverName?: string;
}

/** @param tls - undefined for plain text */
export function channelCredentials(tls: TlsOptions | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const pem = (value: string | Uint8Array | undefined) => (value === undefined ? null : Buffer.from(value as string));
  return credentials.createSsl(pem(tls.ca), pem(tls.key), pem(tls.cert));
}
