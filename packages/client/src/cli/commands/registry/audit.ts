import { AuditChain, type AuditEntry } from "@persona-mesh/protocol/registry";
import { type Command, Option } from "commander";
import { integer } from "../../arguments.ts";
import type { CliIo } from "../../io.ts";
import { shortName } from "../../registry/cells.ts";
import { messageJson } from "../../registry/message-json.ts";
import { examples } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { table } from "../../table.ts";
import { printable } from "../../text-layout.ts";
import { addAuditExport } from "./audit-export.ts";
import { addAuditVerify } from "./audit-verify.ts";

const MAX_ENTRIES = 1_000_000;

interface ListOptions {
  chain: "changes" | "reads";
  resource?: string;
  actor?: string;
  action?: string;
  limit: number;
}

/** `persona audit …`: who did what. */
export function addAuditCommands(audit: Command, io: CliIo): void {
  const list = audit
    .command("list")
    .description("List entries of the tenant's audit, newest first")
    .addOption(
      new Option("--chain <chain>", "changes, or reads of vector bytes")
        .choices(["changes", "reads"])
        .default("changes"),
    )
    .option("--resource <name>", "full name; what is below it too")
    .option("--actor <subject>", "who")
    .option("--action <action>", 'what, such as "SetAlias"')
    .option("--limit <n>", "so many at most", integer(1, MAX_ENTRIES), 50)
    .addHelpText("after", examples(["audit list", "audit list --actor bob --action CreateApproval --json"]));
  onRegistry<ListOptions>(list, io, { roles: ["approver"] }, listEntries);
  addAuditExport(audit, io);
  addAuditVerify(audit, io);
}

/** One thing that was done: a change, or one of the reads that share an entry. */
interface Deed {
  readonly sequence: bigint;
  readonly time: string;
  readonly actor: string;
  readonly action: string;
  readonly resource: string;
  readonly reason: string;
}

async function listEntries({ client, context, parent, call }: RegistrySession<ListOptions>): Promise<void> {
  const { chain, resource = "", actor = "", action = "", limit } = context.options;
  const request = {
    parent,
    chain: chain === "reads" ? AuditChain.READS : AuditChain.CHANGES,
    resource,
    actor,
    action,
    pageSize: Math.min(limit, 1000),
  };
  const entries = await Array.fromAsync(first(limit, client.listAuditEntries(request, call)));
  if (context.json) {
    await context.printJson({ entries: entries.map(messageJson) });
    return;
  }
  if (entries.length === 0) {
    context.note("none");
    return;
  }
  await context.printLines(
    table<Deed>(
      [
        { heading: "SEQUENCE", align: "right", cell: ({ sequence }) => String(sequence) },
        { heading: "TIME", cell: (deed) => printable(deed.time.slice(0, 19).replace("T", " ")) },
        { heading: "ACTOR", cell: (deed) => printable(deed.actor) },
        { heading: "ACTION", cell: (deed) => printable(deed.action) },
        { heading: "RESOURCE", cell: (deed) => shortName(deed.resource) },
        { heading: chain === "reads" ? "PURPOSE" : "REASON", cell: ({ reason }) => printable(reason) },
      ],
      entries.flatMap(deedsOf),
    ),
  );
}

/** The bytes of a payload are what is hashed: nothing in them is taken for granted. */
function deedsOf({ sequence, payload }: AuditEntry): Deed[] {
  const entry = recordIn(JSON.parse(payload));
  const said = (from: Readonly<Record<string, unknown>>, field: string) => {
    const value = from[field];
    return typeof value === "string" ? value : "";
  };
  const common = { sequence, time: said(entry, "time"), action: said(entry, "action") };
  const reads = entry["reads"];
  if (!Array.isArray(reads)) {
    return [
      { ...common, actor: said(entry, "actor"), resource: said(entry, "resource"), reason: said(entry, "reason") },
    ];
  }
  return reads.map(recordIn).map((read) => {
    return { ...common, actor: said(read, "actor"), resource: said(read, "resource"), reason: said(read, "purpose") };
  });
}

function recordIn(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null ? { ...value } : {};
}

async function* first<T>(count: number, items: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  let taken = 0;
  for await (const item of items) {
    yield item;
    taken++;
    if (taken === count) return;
  }
}
