import { stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { join, resolve } from "node:path";
import { RESOURCE_ID, type RoleName } from "@persona-mesh/service/client";
import { InferenceClient } from "../client.ts";
import { readBoundedFile } from "../json-file.ts";
import { LocalError } from "../local-error.ts";
import { RegistryClient } from "../registry/registry-client.ts";
import type { CommandContext } from "./context.ts";
import { UsageError } from "./failure.ts";
import { printable } from "./text-layout.ts";
import { developmentTls, readTlsFiles } from "./tls-files.ts";

/** Largest token file: servers refuse longer tokens anyway. */
const MAX_TOKEN_BYTES = 16 << 10;

/** A development token that a command makes for itself lives as long as the longest stream. */
const OWN_TOKEN_SECONDS = 3600;

/** A client, and whose tenant its token speaks for. */
export interface Connection extends Disposable {
  readonly client: InferenceClient;
  /** Undefined where the token does not say, as an opaque one. */
  readonly tenant: string | undefined;
}

/**
 * Connect to the worker as the options say. The connection itself is made by the first call.
 *
 * @param role - what the command needs, for a development token
 * @throws UsageError, LocalError
 */
export async function connect(context: CommandContext, role: RoleName): Promise<Connection> {
  const connection = await connectionOptions(context, context.options.address);
  const { token, tenant } = await accessToken(context, { roles: [role] });
  const client = new InferenceClient({ ...connection, token });
  return { client, tenant, [Symbol.dispose]: () => client.close() };
}

/** A client of the registry, and whose tenant its token speaks for. */
export interface RegistryConnection extends Disposable {
  readonly client: RegistryClient;
  /** Undefined where the token does not say, as an opaque one. */
  readonly tenant: string | undefined;
}

/**
 * Connect to the registry as the options say.
 *
 * @param claims - for a development token
 * @throws UsageError, LocalError
 */
export async function connectRegistry(context: CommandContext, claims: OwnClaims): Promise<RegistryConnection> {
  const connection = await connectionOptions(context, context.options.registry);
  const { token, tenant } = await accessToken(context, claims);
  const client = new RegistryClient({ ...connection, token });
  return { client, tenant, [Symbol.dispose]: () => client.close() };
}

async function connectionOptions({ options, io }: CommandContext, address: string) {
  const tls = (await readTlsFiles(options, io.cwd)) ?? (await developmentTls(options, address, io.cwd));
  return {
    address,
    ...(tls === undefined ? {} : { tls }),
    ...(options.timeout === undefined ? {} : { timeoutMs: options.timeout }),
  };
}

/** Who a development token speaks for. */
export interface OwnClaims {
  readonly roles: readonly RoleName[];
  /** @default `--tenant` */
  readonly tenant?: string;
  /** @default whoever is at the keyboard */
  readonly subject?: string;
}

interface AccessToken {
  readonly token: string;
  readonly tenant: string | undefined;
}

/** The first there is: `--token`, `--token-file`, PERSONA_TOKEN, one signed with the development keys. */
async function accessToken(context: CommandContext, claims: OwnClaims): Promise<AccessToken> {
  const { io, options } = context;
  if (options.token !== undefined && options.tokenFile !== undefined) {
    throw new UsageError("OPTIONS_CONFLICT", "--token and --token-file exclude each other");
  }
  const given =
    options.token ??
    (options.tokenFile === undefined
      ? io.env["PERSONA_TOKEN"]
      : await readBoundedFile(resolve(io.cwd, options.tokenFile), MAX_TOKEN_BYTES));
  if (given) return { token: given.trim(), tenant: tenantOf(given.trim()) };
  const dataDir = resolve(io.cwd, options.dataDir);
  if (!(await hasDevKeys(dataDir))) {
    throw new LocalError(
      "TOKEN_MISSING",
      `no access token: give --token, --token-file or PERSONA_TOKEN (${dataDir} has no development keys to make one with)`,
    );
  }
  const tenant = requireTenant(claims.tenant ?? options.tenant);
  const { roles, subject = developer() } = claims;
  // Loaded here: signing needs the server's half of the package, which takes as long to load as all the rest.
  const { ensureDevKeys, signDevToken } = await import("@persona-mesh/service");
  const token = await signDevToken(await ensureDevKeys(dataDir), {
    subject,
    tenant,
    roles,
    ttlSeconds: OWN_TOKEN_SECONDS,
  });
  const who = claims.subject === undefined ? "" : `, as ${printable(subject)}`;
  context.note(`using a development token: tenant ${tenant}, role ${roles.join(" and ")}${who}`);
  return { token, tenant };
}

/** A tenant that a development token may name: the worker accepts no other. @throws UsageError */
export function requireTenant(tenant: string): string {
  if (RESOURCE_ID.test(tenant)) return tenant;
  const form = "lower-case letters, digits and hyphens, at most 63, beginning with a letter";
  throw new UsageError("TENANT_INVALID", `"${tenant}" is no tenant: ${form}`);
}

/** Who is at the keyboard, as far as the machine knows; for audit lines of a development mesh. */
export function developer(): string {
  try {
    return `dev:${userInfo().username}`;
  } catch {
    // A user id without a name, as in many containers.
    return "dev:unknown";
  }
}

/** Whether a worker has made development keys here: then its tokens are ours to make. */
async function hasDevKeys(dataDir: string): Promise<boolean> {
  return stat(join(dataDir, "dev-keys")).then(
    (info) => info.isDirectory(),
    () => false,
  );
}

function tenantOf(token: string): string | undefined {
  const { tenant } = unverifiedClaims(token);
  return typeof tenant === "string" ? tenant : undefined;
}

/** What a JWT claims, unverified: only the worker can verify, and only it decides. Nothing for an opaque token. */
export function unverifiedClaims(token: string): Readonly<Record<string, unknown>> {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    return typeof claims === "object" && claims !== null ? { ...claims } : {};
  } catch {
    return {};
  }
}
