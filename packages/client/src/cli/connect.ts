import { readFile, stat } from "node:fs/promises";
import { userInfo } from "node:os";
import { join, resolve } from "node:path";
import { ensureDevKeys, type RoleName, signDevToken } from "@persona-mesh/service";
import { InferenceClient, type TlsOptions } from "../client.ts";
import { readBoundedFile } from "../json-file.ts";
import { LocalError } from "../local-error.ts";
import type { CommandContext, GlobalOptions } from "./context.ts";
import { UsageError } from "./failure.ts";

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
 * Connect as the options say. The connection itself is made by the first call.
 *
 * @param role - what the command needs, for a development token
 * @throws UsageError, LocalError
 */
export async function connect(context: CommandContext, role: RoleName): Promise<Connection> {
  const { options } = context;
  const tls = await tlsOf(options);
  const { token, tenant } = await accessToken(context, role);
  const client = new InferenceClient({
    address: options.address,
    token,
    ...(tls === undefined ? {} : { tls }),
    ...(options.timeout === undefined ? {} : { timeoutMs: options.timeout }),
  });
  return { client, tenant, [Symbol.dispose]: () => client.close() };
}

interface AccessToken {
  readonly token: string;
  readonly tenant: string | undefined;
}

/** The first there is: `--token`, `--token-file`, PERSONA_TOKEN, one signed with the development keys. */
async function accessToken(context: CommandContext, role: RoleName): Promise<AccessToken> {
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
  const { tenant } = options;
  const token = await signDevToken(await ensureDevKeys(dataDir), {
    subject: developer(),
    tenant,
    roles: [role],
    ttlSeconds: OWN_TOKEN_SECONDS,
  });
  context.note(`using a development token: tenant ${tenant}, role ${role}`);
  return { token, tenant };
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

/** The tenant claim of a JWT, unverified: only the worker can verify, and only it decides. */
export function tenantOf(token: string): string | undefined {
  try {
    const payload: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    const tenant = (payload as { tenant?: unknown } | null)?.tenant;
    return typeof tenant === "string" ? tenant : undefined;
  } catch {
    return undefined;
  }
}

async function tlsOf(options: GlobalOptions): Promise<TlsOptions | undefined> {
  const { tls, tlsCa, tlsCert, tlsKey, tlsServerName } = options;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw new UsageError("OPTIONS_CONFLICT", "--tls-cert and --tls-key go together");
  }
  if (!tls && tlsCa === undefined && tlsCert === undefined) {
    if (tlsServerName !== undefined)
      throw new UsageError("OPTIONS_CONFLICT", "--tls-server-name needs --tls or --tls-ca");
    return undefined;
  }
  return {
    ...(tlsCa === undefined ? {} : { ca: await readFile(tlsCa) }),
    ...(tlsCert === undefined ? {} : { cert: await readFile(tlsCert) }),
    ...(tlsKey === undefined ? {} : { key: await readFile(tlsKey) }),
    ...(tlsServerName === undefined ? {} : { serverName: tlsServerName }),
  };
}
