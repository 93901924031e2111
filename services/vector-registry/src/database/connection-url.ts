import { readFileSync } from "node:fs";
import { isIPv4, isIPv6 } from "node:net";
import { checkServerIdentity } from "node:tls";
import { ServiceError } from "@persona-mesh/service";
import type { ClientConfig } from "pg";

/** Where a database is and how to log in. `shown` says it without credentials, for logs and errors. */
export interface DatabaseAddress {
  readonly connection: Readonly<
    Required<Pick<ClientConfig, "host" | "port" | "user" | "database" | "ssl">> & Pick<ClientConfig, "password">
  >;
  readonly shown: string;
}

export interface DatabaseUrlOptions {
  /**
   * Accept `sslmode=disable` to a host other than this machine: for a network that encrypts by itself.
   * @default false
   */
  readonly allowPlainText?: boolean;
}

/**
 * Read `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?PARAMETERS`, as libpq writes it; `host=/FOLDER` as a parameter names
 * a Unix socket. Off this machine TLS with verified host name is in force unless the URL says otherwise, and saying
 * otherwise takes `allowPlainText`. Parameters that weaken or that nobody here knows are refused, not ignored.
 *
 * @throws ServiceError CONFIG_INVALID, without the URL in it
 */
export function parseDatabaseUrl(url: string, options: DatabaseUrlOptions = {}): DatabaseAddress {
  const parsed = parse(url);
  const parameters = readParameters(parsed);
  const host = parameters.get("host") ?? decode(parsed.hostname, "host").replace(/^\[(.*)\]$/, "$1");
  const user = decode(parsed.username, "user");
  const database = decode(parsed.pathname.slice(1), "database");
  const port = parsed.port === "" ? DEFAULT_PORT : Number(parsed.port);
  for (const [name, value] of Object.entries({ host, user, database })) {
    if (value === "") throw refuse(`names no ${name}`);
  }
  const local = host.startsWith("/") || isLoopback(host);
  const ssl = tlsOf(parameters, host, local);
  if (ssl === false && !local && options.allowPlainText !== true) {
    throw refuse(
      "asks for plain text to another machine (sslmode=disable): leave sslmode out, or allow plain text explicitly",
    );
  }
  const password = parsed.password === "" ? {} : { password: decode(parsed.password, "password") };
  return {
    connection: { host, port, user, database, ssl, ...password },
    shown: host.startsWith("/") ? `${database} at the socket in ${host}` : `${database} at ${host}:${port}`,
  };
}

const DEFAULT_PORT = 5432;
const PARAMETERS = new Set(["host", "sslmode", "sslrootcert", "sslcert", "sslkey"]);

function parse(url: string): URL {
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (parsed === undefined || !["postgresql:", "postgres:"].includes(parsed.protocol)) {
    throw refuse("is not postgresql://USER:PASSWORD@HOST:PORT/DATABASE");
  }
  return parsed;
}

function readParameters(parsed: URL): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const [name, value] of parsed.searchParams) {
    if (!PARAMETERS.has(name)) throw refuse(`has an unknown parameter ${name.slice(0, 40)}`);
    if (parameters.has(name)) throw refuse(`names ${name} twice`);
    parameters.set(name, value);
  }
  return parameters;
}

/** TLS with verified certificate and host name, or none at all: there is nothing useful between. */
function tlsOf(
  parameters: Map<string, string>,
  host: string,
  local: boolean,
): Exclude<ClientConfig["ssl"], undefined | true> {
  const files = { ca: "sslrootcert", cert: "sslcert", key: "sslkey" } as const;
  const wanted = Object.values(files).some((name) => parameters.has(name));
  const mode = parameters.get("sslmode") ?? (local && !wanted ? "disable" : "verify-full");
  if (mode === "disable") {
    if (wanted) throw refuse("names certificates and sslmode=disable");
    return false;
  }
  if (mode !== "verify-full") throw refuse("has an sslmode other than verify-full and disable, which would not verify");
  const tls: Partial<Record<keyof typeof files, string>> = {};
  for (const [key, name] of Object.entries(files) as [keyof typeof files, string][]) {
    const path = parameters.get(name);
    if (path === undefined) continue;
    try {
      tls[key] = readFileSync(path, "utf8");
    } catch (cause) {
      throw refuse(`names a file in ${name} that cannot be read`, cause);
    }
  }
  return {
    ...tls,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    // The driver names the host to TLS only where it is no IP address, and TLS then takes "localhost" for it.
    checkServerIdentity: (_, certificate) => checkServerIdentity(host, certificate),
  };
}

function isLoopback(host: string): boolean {
  if (isIPv4(host)) return host.startsWith("127.");
  return isIPv6(host) ? host === "::1" : host === "localhost";
}

function decode(part: string, name: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw refuse(`has a ${name} with a stray %`);
  }
}

function refuse(what: string, cause?: unknown): ServiceError {
  return new ServiceError("CONFIG_INVALID", `the database URL ${what}`, cause === undefined ? {} : { cause });
}
