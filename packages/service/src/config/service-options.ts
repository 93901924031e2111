import { isIP } from "node:net";
import { z } from "zod";
import { LOG_LEVELS } from "../log.ts";
import { DEFAULT_TRUST_DOMAIN, TRUST_DOMAIN } from "../tls/service-identity.ts";
import { requireConfig } from "./load.ts";
import { option, type Values } from "./option.ts";

const port = z.int().min(0).max(65535);
const file = z.string().min(1).optional();
const seconds = (max: number) => z.number().min(0.001).max(max);

/** What every service can be told. Its own options stand beside these. */
export const SERVICE_OPTIONS = {
  environment: option(z.enum(["development", "production"]), {
    default: "development",
    doc: "Development makes its own signing keys and answers reflection; production does neither unless told.",
  }),
  dataDir: option(z.string().min(1), {
    default: ".persona",
    doc: "Folder for what the service makes itself, such as development keys. Created with access for this user only.",
  }),
  logLevel: option(z.enum(LOG_LEVELS), { default: "info", doc: "Least severe log line that is written." }),
  grpcHost: option(z.string().min(1), {
    default: "127.0.0.1",
    doc: "Address that the gRPC server listens on. Anything but this machine needs TLS or allowInsecure.",
  }),
  grpcPort: option(port, { default: 7070, doc: "Port of the gRPC server; 0 takes a free one." }),
  allowInsecure: option(z.boolean(), {
    default: false,
    doc: "Listen beyond this machine without TLS. Tokens then travel in the clear: only behind a proxy that ends TLS.",
  }),
  tlsCertFile: option(file, {
    default: undefined,
    doc: "Certificate chain of the gRPC server, PEM. Needs tlsKeyFile.",
  }),
  tlsKeyFile: option(file, { default: undefined, doc: "Private key of the gRPC server, PEM." }),
  tlsClientCaFile: option(file, {
    default: undefined,
    doc: "Certificate authorities of clients, PEM. A certificate of theirs with a SPIFFE id of trustDomain proves a service of the mesh.",
  }),
  tlsClientCertificates: option(z.enum(["required", "optional"]).optional(), {
    default: undefined,
    doc: "Whether clients can connect without a certificate, to call with a token. Unset: required with tlsClientCaFile, optional with devTls.",
  }),
  tlsServerCaFile: option(file, {
    default: undefined,
    doc: "Certificate authorities of the servers that this service calls, PEM. Unset: tlsClientCaFile.",
  }),
  devTls: option(z.boolean(), {
    default: false,
    doc: "In development, where tlsCertFile is not set: TLS and mutual TLS with an authority of its own in dataDir.",
  }),
  trustDomain: option(z.string().regex(TRUST_DOMAIN, "not a SPIFFE trust domain"), {
    default: DEFAULT_TRUST_DOMAIN,
    doc: "SPIFFE trust domain of the mesh: services are spiffe://TRUST_DOMAIN/ns/persona-mesh/sa/SERVICE.",
  }),
  managementHost: option(z.string().min(1), {
    default: "127.0.0.1",
    doc: "Address of the management port (plain HTTP: /healthz, /readyz, /metrics). Beyond this machine, keep it behind a network policy.",
  }),
  managementPort: option(port, { default: 7071, doc: "Port of the management server; 0 takes a free one." }),
  authIssuer: option(z.string().min(1).max(256), { default: "persona-mesh-dev", doc: "`iss` that tokens must have." }),
  authAudience: option(z.string().min(1).max(256), { default: "persona-mesh", doc: "`aud` that tokens must contain." }),
  authJwksFile: option(file, {
    default: undefined,
    doc: "Keys that tokens are verified with, as JSON Web Key Set; read again when it changes. Without it and authJwksUrl, development makes keys in dataDir.",
  }),
  authJwksUrl: option(z.url().max(2048).optional(), {
    default: undefined,
    doc: "Where the issuer publishes its keys, as JSON Web Key Set over HTTPS; fetched again from time to time, and for keys not seen before.",
  }),
  otlpEndpoint: option(
    z
      .url({ protocol: /^https?$/ })
      .max(2048)
      .optional(),
    {
      default: undefined,
      doc: "Collector that traces are sent to, as OTLP over HTTP, such as http://localhost:4318. Unset: OTEL_EXPORTER_OTLP_ENDPOINT; without both, no traces.",
    },
  ),
  traceSampleRatio: option(z.number().min(0).max(1), {
    default: 1,
    doc: "Share of traces that are recorded where the caller has not decided already.",
  }),
  reflection: option(z.boolean().optional(), {
    default: undefined,
    doc: "Answer gRPC server reflection, without a token. Unset: only in development.",
  }),
  maxCalls: option(z.int().min(1).max(100_000), {
    default: 1024,
    doc: "Calls that are handled at once; further ones are refused with SERVER_BUSY.",
  }),
  unaryDefaultSeconds: option(seconds(3600), {
    default: 60,
    unit: "s",
    doc: "Deadline of unary calls whose client sets none.",
  }),
  unaryMaxSeconds: option(seconds(3600), {
    default: 300,
    unit: "s",
    doc: "Longest time that a unary call gets, whatever its client asks for.",
  }),
  streamDefaultSeconds: option(seconds(86_400), {
    default: 600,
    unit: "s",
    doc: "Deadline of streams whose client sets none.",
  }),
  streamMaxSeconds: option(seconds(86_400), {
    default: 3600,
    unit: "s",
    doc: "Longest time that a stream gets, whatever its client asks for.",
  }),
  drainSeconds: option(z.number().min(0).max(3600), {
    default: 25,
    unit: "s",
    doc: "How long running calls may go on after SIGTERM; below the 30 s that Kubernetes waits before it kills.",
  }),
};

export type ServiceValues = Values<typeof SERVICE_OPTIONS>;

/** What must hold between options. @throws ServiceError CONFIG_INVALID */
export function checkServiceConfig(values: ServiceValues): void {
  const hasTls = values.tlsCertFile !== undefined;
  requireConfig(
    hasTls === (values.tlsKeyFile !== undefined),
    hasTls ? "tlsKeyFile" : "tlsCertFile",
    "certificate and key go together: set tlsCertFile and tlsKeyFile",
  );
  requireConfig(
    hasTls || values.tlsClientCaFile === undefined,
    "tlsClientCaFile",
    "client certificates need TLS: set tlsCertFile and tlsKeyFile",
  );
  requireConfig(
    values.tlsClientCertificates === undefined || values.tlsClientCaFile !== undefined || usesDevTls(values),
    "tlsClientCertificates",
    "client certificates need an authority: set tlsClientCaFile",
  );
  requireConfig(
    hasTls || usesDevTls(values) || values.allowInsecure || isLoopback(values.grpcHost),
    "grpcHost",
    `${values.grpcHost} can be reached from other machines: set tlsCertFile and tlsKeyFile, or allowInsecure on purpose`,
  );
  requireConfig(
    values.environment === "development" || values.authJwksFile !== undefined || values.authJwksUrl !== undefined,
    "authJwksFile",
    "production needs the issuer's keys: set authJwksFile or authJwksUrl",
  );
  requireConfig(
    values.authJwksFile === undefined || values.authJwksUrl === undefined,
    "authJwksUrl",
    "keys come from one place: set authJwksFile or authJwksUrl",
  );
  requireConfig(
    values.authJwksUrl === undefined || isTrustworthy(new URL(values.authJwksUrl)),
    "authJwksUrl",
    "whoever answers decides which tokens count: only https without a password in it, or http on this machine",
  );
  requireConfig(
    values.unaryDefaultSeconds <= values.unaryMaxSeconds,
    "unaryDefaultSeconds",
    "more than unaryMaxSeconds",
  );
  requireConfig(
    values.streamDefaultSeconds <= values.streamMaxSeconds,
    "streamDefaultSeconds",
    "more than streamMaxSeconds",
  );
}

/** The service makes its own certificates. */
export function usesDevTls(values: Pick<ServiceValues, "environment" | "devTls" | "tlsCertFile">): boolean {
  return values.devTls && values.environment === "development" && values.tlsCertFile === undefined;
}

function isTrustworthy({ protocol, hostname, username, password }: URL): boolean {
  const isSafe = protocol === "https:" || (protocol === "http:" && isLoopback(hostname.replace(/^\[|\]$/g, "")));
  return isSafe && username === "" && password === "";
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}
