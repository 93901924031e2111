import { hostname } from "node:os";
import { isLoopback, type ServiceValues, usesDevTls } from "../config/service-options.ts";
import type { Logger } from "../log.ts";
import { openDevTls, openTlsFiles, type TlsSource } from "./tls-source.ts";

/**
 * What a service's server presents, and which clients' certificates it trusts; undefined for plain text.
 *
 * @param service - name in its development certificate
 * @throws ServiceError CONFIG_INVALID
 */
export async function openServerTls(
  config: ServiceValues,
  service: string,
  log: Logger,
): Promise<TlsSource | undefined> {
  if (usesDevTls(config)) return openOwnTls(config, service, log);
  const { tlsCertFile, tlsKeyFile, tlsClientCaFile } = config;
  if (tlsCertFile === undefined || tlsKeyFile === undefined) return undefined;
  const names = { certFile: "tlsCertFile", keyFile: "tlsKeyFile", caFile: "tlsClientCaFile" };
  return openTlsFiles({ certFile: tlsCertFile, keyFile: tlsKeyFile, ...authority(tlsClientCaFile) }, log, names);
}

/**
 * What a service presents as a client of the others: the same certificate as its server's, by which they know it. For
 * {@link createClient}; undefined where the mesh speaks plain text.
 *
 * @param service - name in its development certificate
 * @throws ServiceError CONFIG_INVALID
 */
export async function openClientTls(
  config: ServiceValues,
  service: string,
  log: Logger,
): Promise<TlsSource | undefined> {
  if (usesDevTls(config)) return openOwnTls(config, service, log);
  const { tlsCertFile, tlsKeyFile, tlsClientCaFile, tlsServerCaFile = tlsClientCaFile } = config;
  if (tlsCertFile === undefined || tlsKeyFile === undefined) return undefined;
  const names = { certFile: "tlsCertFile", keyFile: "tlsKeyFile", caFile: "tlsServerCaFile" };
  return openTlsFiles({ certFile: tlsCertFile, keyFile: tlsKeyFile, ...authority(tlsServerCaFile) }, log, names);
}

/** Whether the server lets clients without a certificate connect. */
export function clientCertificates(config: ServiceValues): "required" | "optional" {
  return config.tlsClientCertificates ?? (usesDevTls(config) ? "optional" : "required");
}

function openOwnTls(config: ServiceValues, service: string, log: Logger): Promise<TlsSource> {
  const { dataDir, grpcHost, trustDomain } = config;
  const isWildcard = grpcHost === "0.0.0.0" || grpcHost === "::";
  const hosts = isWildcard ? [hostname()] : isLoopback(grpcHost) ? [] : [grpcHost];
  return openDevTls(dataDir, service, log, { hosts, trustDomain });
}

function authority(caFile: string | undefined): { caFile?: string } {
  return caFile === undefined ? {} : { caFile };
}
