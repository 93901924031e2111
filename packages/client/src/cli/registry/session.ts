import { PLATFORM_TENANT, ROLES, type RoleName } from "@persona-mesh/service/client";
import type { Command } from "commander";
import type { RegistryClient } from "../../registry/registry-client.ts";
import { wordList } from "../arguments.ts";
import { connectRegistry } from "../connect.ts";
import { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";
import type { CliIo } from "../io.ts";
import { tenantId } from "./names.ts";

/** What every command of the registry takes. */
interface CallerOptions {
  as?: string;
  role?: RoleName[];
}

/** Who a command speaks as where it signs a development token itself. */
export interface CommandCaller<Options> {
  /** What the command needs. */
  readonly roles: readonly RoleName[] | ((options: Options) => readonly RoleName[]);
  /** Tenants and models are the platform's to make. @default the tenant of `--tenant` */
  readonly isPlatform?: boolean | ((options: Options) => boolean);
  /** Whose the first argument is, where it is given. @default that of a full name */
  readonly tenantOf?: (argument: string) => string | undefined;
}

/** One command of the registry at work. */
export class RegistrySession<Options> {
  readonly context: CommandContext<Options>;
  readonly client: RegistryClient;
  readonly #tenant: string | undefined;

  constructor(context: CommandContext<Options>, client: RegistryClient, tenant: string | undefined) {
    this.context = context;
    this.client = client;
    this.#tenant = tenant;
  }

  get options(): CommandContext<Options>["options"] {
    return this.context.options;
  }

  /** Of every call. */
  get call(): { signal: AbortSignal } {
    return { signal: this.context.signal };
  }

  /** Whose things short names mean. @throws UsageError TENANT_UNKNOWN for a token that does not say */
  get tenant(): string {
    if (this.#tenant !== undefined) return this.#tenant;
    throw new UsageError("TENANT_UNKNOWN", "the token names no tenant: write names in full, tenants/TENANT/…");
  }

  /** "tenants/{tenant}". */
  get parent(): string {
    return `tenants/${this.tenant}`;
  }
}

/**
 * Give a command what all commands of the registry have, and what it does. A tenant that the first argument names in full
 * is the tenant of a development token.
 *
 * @param run - gets a session with an open connection, and the command's arguments
 */
export function onRegistry<Options = object>(
  command: Command,
  io: CliIo,
  caller: CommandCaller<Options>,
  run: (session: RegistrySession<Options>, ...args: string[]) => Promise<void>,
): Command {
  return command
    .optionsGroup("Caller (development tokens alone):")
    .option("--as <subject>", "speak for this person")
    .option(
      "--role <roles>",
      "with these roles, not those the command needs",
      wordList(Object.keys(ROLES) as RoleName[]),
    )
    .action(async (...given: unknown[]) => {
      const args = given.slice(0, -2) as string[];
      const context = new CommandContext<Options & CallerOptions>(io, command);
      const { options } = context;
      const { roles, isPlatform = false, tenantOf = tenantIn } = caller;
      const platform = typeof isPlatform === "function" ? isPlatform(options) : isPlatform;
      const own = args[0] === undefined ? undefined : tenantOf(args[0]);
      const named = platform ? PLATFORM_TENANT : own;
      using connection = await connectRegistry(context, {
        roles: options.role ?? (typeof roles === "function" ? roles(options) : roles),
        ...(named === undefined ? {} : { tenant: named }),
        ...(options.as === undefined ? {} : { subject: options.as }),
      });
      await run(new RegistrySession<Options>(context, connection.client, connection.tenant), ...args);
    });
}

/** The tenant of a full name; undefined for a short one, and for what is none. */
function tenantIn(name: string): string | undefined {
  return name.startsWith("tenants/") ? tenantId(name.split("/").slice(0, 2).join("/")) : undefined;
}
