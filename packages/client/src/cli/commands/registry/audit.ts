import { AuditChain, type AuditEntry } from "@persona-mesh/protocol/registry";
import { type Command, Option } from "commander";
import { integer } from "../../arguments.ts";
import type { CliIo } from "../../io.ts";
import { shortName } from "../../registry/cells.ts";
import { examples, printItems } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
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

/** What an entry's payload says; its bytes are what is hashed, so nothing in them is taken for granted. */
interface Payload {
  readonly time?: unknown;
  readonly actor?: unknown;
  readonly action?: unknown;
  readonly resource?: unknown;
  readonly reason?: unknown;
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
  const payloads = new WeakMap<AuditEntry, Payload>();
  const said = (entry: AuditEntry, field: keyof Payload) => {
    const payload = payloads.get(entry) ?? (JSON.parse(entry.payload) as Payload);
    payloads.set(entry, payload);
    const value = payload[field];
    return typeof value === "string" ? value : value === undefined ? "" : JSON.stringify(value);
  };
  await printItems<AuditEntry>(context, {
    key: "entries",
    items: first(limit, client.listAuditEntries(request, call)),
    columns: [
      { heading: "SEQUENCE", align: "right", cell: ({ sequence }) => String(sequence) },
      { heading: "TIME", cell: (entry) => printable(said(entry, "time").slice(0, 19).replace("T", " ")) },
      { heading: "ACTOR", cell: (entry) => printable(said(entry, "actor")) },
      { heading: "ACTION", cell: (entry) => printable(said(entry, "action")) },
      { heading: "RESOURCE", cell: (entry) => shortName(said(entry, "resource")) },
      { heading: "REASON", cell: (entry) => printable(said(entry, "reason")) },
    ],
  });
}

async function* first<T>(count: number, items: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  let taken = 0;
  for await (const item of items) {
    yield item;
    taken++;
    if (taken === count) return;
  }
}
