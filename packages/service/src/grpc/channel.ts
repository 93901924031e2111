import { isIP } from "node:net";
import { checkServerIdentity, type PeerCertificate } from "node:tls";
import { ChannelCredentials, type ChannelOptions, credentials, Client as GrpcClient } from "@grpc/grpc-js";
import { DEFAULT_TRUST_DOMAIN, serviceIdentityOf } from "../tls/service-identity.ts";
import type { TlsMaterial, TlsSource } from "../tls/tls-source.ts";

/** The connections of a client. */
export interface Channel {
  /** What a call is made on; to be released when the call is over. */
  lease(): Lease;
  close(): void;
}

export interface Lease {
  readonly client: GrpcClient;
  release(): void;
}

/** TLS with certificates that change. */
export interface ChannelSecurity {
  readonly source: TlsSource;
  /** The service that must answer, instead of the host that is dialled. */
  readonly serverIdentity?: { readonly service: string; readonly trustDomain?: string };
}

/**
 * Connections to a target. After a change of certificates the next call opens a new connection with the new ones; the old
 * one ends with the last call on it.
 */
export function openChannel(
  target: string,
  security: ChannelCredentials | ChannelSecurity,
  options: ChannelOptions,
): Channel {
  if (security instanceof ChannelCredentials) {
    const client = new GrpcClient(target, security, options);
    return { lease: () => ({ client, release: () => {} }), close: () => client.close() };
  }
  const address = ipAddressOf(target);
  // TLS has no server names that are addresses, and Node warns of them: another name is sent, and the address verified.
  const named = address === undefined ? options : { "grpc.ssl_target_name_override": ADDRESS_NAME, ...options };
  const open = (material: TlsMaterial): Generation => ({
    material,
    client: new GrpcClient(target, sslCredentials(material, security, address), named),
    calls: 0,
  });
  let newest = open(security.source.current);
  let isClosed = false;
  return {
    lease: () => {
      if (!isClosed && newest.material !== security.source.current) {
        if (newest.calls === 0) newest.client.close();
        newest = open(security.source.current);
      }
      const leased = newest;
      leased.calls++;
      return {
        client: leased.client,
        release: () => {
          leased.calls--;
          if (leased !== newest && leased.calls === 0) leased.client.close();
        },
      };
    },
    close: () => {
      isClosed = true;
      newest.client.close();
    },
  };
}

/** The connection made with one version of the certificates, and the calls that run on it. */
interface Generation {
  readonly material: TlsMaterial;
  readonly client: GrpcClient;
  calls: number;
}

/** Sent in place of an address; reserved, so that no server has it. */
const ADDRESS_NAME = "address.invalid";

/** The address in a target such as `127.0.0.1:7300` or `[::1]:7300`; undefined where it is a name or has a scheme. */
function ipAddressOf(target: string): string | undefined {
  const host = /^\[?([^\]]*?)\]?(?::\d+)?$/.exec(target)?.[1] ?? "";
  return isIP(host) === 0 ? undefined : host;
}

function sslCredentials(
  { ca, key, cert }: TlsMaterial,
  { serverIdentity }: ChannelSecurity,
  address: string | undefined,
): ChannelCredentials {
  return credentials.createSsl(ca ?? null, key ?? null, cert ?? null, {
    checkServerIdentity: (host: string, certificate: PeerCertificate) =>
      serverIdentity === undefined
        ? checkServerIdentity(host === ADDRESS_NAME && address !== undefined ? address : host, certificate)
        : unlessService(certificate, serverIdentity.service, serverIdentity.trustDomain ?? DEFAULT_TRUST_DOMAIN),
  });
}

/** Node ends the handshake with the error that this returns. */
function unlessService({ raw }: PeerCertificate, service: string, trustDomain: string): Error | undefined {
  try {
    const identity = serviceIdentityOf(raw, trustDomain, Date.now());
    return identity.service === service ? undefined : new Error(`${identity.id} answered, not the service ${service}`);
  } catch (error) {
    return error as Error;
  }
}
