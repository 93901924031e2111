import type { Message } from "@bufbuild/protobuf";
import type { Command } from "commander";
import { LocalError } from "../../local-error.ts";
import { waitForWorkers } from "../../registry/wait-for-workers.ts";
import { duration } from "../arguments.ts";
import { confirm } from "../confirm.ts";
import type { CommandContext } from "../context.ts";
import { UsageError } from "../failure.ts";
import { printable } from "../text-layout.ts";
import { messageJson } from "./message-json.ts";
import type { RegistrySession } from "./session.ts";

/** What commands that change something take; each only what its call has. */
export interface ChangeOptions {
  dryRun?: true;
  reason?: string;
  etag?: string;
  yes?: true;
  breakGlass?: string;
  /** Milliseconds; true for the default. */
  wait?: number | true;
}

export type ChangeOption = "reason" | "etag" | "yes" | "breakGlass" | "wait";

/** `--wait` without a duration, and for what is always waited for. Milliseconds. */
const DEFAULT_WAIT_MILLIS = 5_000;

/** Add `--dry-run`, and of the others those that the call has. */
export function addChangeOptions(command: Command, ...has: readonly ChangeOption[]): Command {
  command.optionsGroup("Change:").option("--dry-run", "answer as if, and change nothing");
  if (has.includes("reason")) command.option("--reason <text>", "why, for the audit");
  if (has.includes("etag"))
    command.option("--etag <etag>", "refuse unless nothing was changed since this one was read");
  if (has.includes("yes")) command.option("--yes", "do not ask");
  if (has.includes("breakGlass")) {
    command.option("--break-glass <justification>", "past approval; a second person has to review it");
  }
  if (has.includes("wait")) {
    command.option("--wait [duration]", 'wait until all connected workers have it (default: "5s")', duration);
  }
  return command.optionsGroup("Options:");
}

/** The fields of a mutating request that the options speak of. */
export function changeFields({ dryRun, reason, etag, breakGlass }: ChangeOptions) {
  return {
    validateOnly: dryRun === true,
    ...(reason === undefined ? {} : { reason }),
    ...(etag === undefined ? {} : { etag }),
    ...(breakGlass === undefined ? {} : { breakGlass: { justification: breakGlass } }),
  };
}

/**
 * Ask before what cannot be undone.
 *
 * @returns false for a no
 * @throws UsageError CONFIRMATION_NEEDED where nobody can be asked and `--yes` is not given
 */
export async function isConfirmed(context: CommandContext<ChangeOptions>, question: string): Promise<boolean> {
  const { options, io } = context;
  // A dry run changes nothing.
  if (options.yes || options.dryRun) return true;
  if (context.json) {
    throw new UsageError("CONFIRMATION_NEEDED", "this cannot be undone: give --yes with --json, which asks nobody");
  }
  if (await confirm(printable(question), io)) return true;
  context.note("nothing was changed");
  return false;
}

/** What a mutation came to. */
export interface Changed {
  /** Full name of what was changed. */
  readonly name: string;
  readonly response: Message;
  /** For people. */
  readonly lines: readonly string[];
  /** Under which workers hear of it; 0 where none needs to. */
  readonly revision?: bigint;
}

/**
 * Print what a mutation came to, and wait for the workers where that was asked for.
 *
 * @param alwaysWaits - also without `--wait`
 * @throws LocalError WORKERS_BEHIND, after everything is printed
 */
export async function finishChange<Options extends ChangeOptions>(
  session: RegistrySession<Options>,
  { name, response, lines, revision = 0n }: Changed,
  { alwaysWaits = false }: { alwaysWaits?: boolean } = {},
): Promise<void> {
  const { context, options, client, call } = session;
  const wait = options.wait ?? (alwaysWaits ? true : undefined);
  const dryRun = options.dryRun === true;
  if (!context.json) await context.printLines(lines);
  if (dryRun) context.note("a dry run: nothing was changed");
  if (wait === undefined || revision === 0n || dryRun) {
    if (context.json) await context.printJson(messageJson(response));
    return;
  }
  const timeoutMs = wait === true ? DEFAULT_WAIT_MILLIS : wait;
  const parent = name.split("/").slice(0, 2).join("/");
  const { reached, behind, away } = await waitForWorkers(client, { parent, revision, timeoutMs }, call);
  const names = (workers: readonly { worker: string }[]) => workers.map(({ worker }) => worker);
  if (context.json) {
    const workers = { reached: names(reached), behind: names(behind), away: names(away) };
    await context.printJson({ ...messageJson(response), workers });
  } else {
    context.note(`revision ${revision}: ${reached.length} ${reached.length === 1 ? "worker has" : "workers have"} it`);
    if (away.length > 0) context.note(`not connected, and not known to have it: ${printable(names(away).join(", "))}`);
  }
  if (behind.length === 0) return;
  const who = printable(names(behind).join(", "));
  throw new LocalError("WORKERS_BEHIND", `the change is made; after ${timeoutMs} ms these do not have it: ${who}`);
}
