import { resolve } from "node:path";
import { ROLES, type RoleName } from "@persona-mesh/service/client";
import type { Command } from "commander";
import { duration, wordList } from "../arguments.ts";
import { developer, requireTenant, unverifiedClaims } from "../connect.ts";
import { CommandContext } from "../context.ts";
import type { CliIo } from "../io.ts";

const ROLE_NAMES = Object.keys(ROLES) as RoleName[];

const HELP = `
Examples:
  $ persona token dev --tenant acme --role operator
  $ export PERSONA_TOKEN=$(persona token dev --tenant acme --role operator,viewer --ttl 1h)
  $ persona token dev --tenant acme --role service --json

Roles: ${ROLE_NAMES.join(", ")}. The key is that of the data folder (--data-dir); a worker that was started with the same
folder accepts it. In production the identity provider makes tokens.
`;

interface TokenOptions {
  role: RoleName[];
  /** Milliseconds. */
  ttl?: number;
  subject?: string;
}

export function addTokenDev(token: Command, io: CliIo): void {
  token
    .command("dev")
    .description("Print a token signed with the development key of the data folder")
    .requiredOption("--role <roles>", "one or more roles, separated by commas", wordList(ROLE_NAMES))
    .option("--ttl <duration>", 'how long it is valid (default: "8h")', duration)
    .option("--subject <name>", "who it speaks for (default: the current user)")
    .addHelpText("after", HELP)
    .action((_options, self: Command) => tokenDev(new CommandContext(io, self)));
}

async function tokenDev(context: CommandContext<TokenOptions>): Promise<void> {
  const { io, options } = context;
  const { role: roles, subject = developer() } = options;
  const tenant = requireTenant(options.tenant);
  const { ensureDevKeys, signDevToken } = await import("@persona-mesh/service");
  const keys = await ensureDevKeys(resolve(io.cwd, options.dataDir));
  const ttl = options.ttl === undefined ? {} : { ttlSeconds: Math.max(1, Math.round(options.ttl / 1000)) };
  const token = await signDevToken(keys, { subject, tenant, roles, ...ttl });
  if (!context.json) {
    await context.print(`${token}\n`);
    return;
  }
  const expiresAt = new Date(Number(unverifiedClaims(token)["exp"]) * 1000).toISOString();
  await context.printJson({ token, tenant, roles, subject, expiresAt });
}
