import { resolve } from "node:path";
import type { Command } from "commander";
import type { CliIo } from "../../io.ts";
import { NewFile } from "../../new-file.ts";
import { examples } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";

interface ExportOptions {
  out?: string;
  overwrite?: true;
}

export function addAuditExport(audit: Command, io: CliIo): void {
  const command = audit
    .command("export")
    .description("Write the tenant's whole audit, with all that its verification needs (JSON lines)")
    .option("--out <file>", "the standard output where not given")
    .option("--overwrite", "replace the file where it exists")
    .addHelpText("after", examples(["audit export --out acme.jsonl", "audit export --tenant acme > acme.jsonl"]));
  onRegistry<ExportOptions>(command, io, { roles: ["approver"] }, exportAudit);
}

async function exportAudit(session: RegistrySession<ExportOptions>): Promise<void> {
  const { context, options } = session;
  if (options.out === undefined) {
    for await (const line of exportLines(session)) await context.print(line);
    return;
  }
  const path = resolve(context.io.cwd, options.out);
  await using file = await NewFile.create(path, { overwrite: options.overwrite === true });
  let lines = 0;
  await file.commit(
    (async function* () {
      for await (const line of exportLines(session)) {
        lines++;
        yield line;
      }
    })(),
  );
  if (context.json) await context.printJson({ file: path, lines });
  else await context.printLines([`${lines} lines  ${options.out}`]);
}

async function* exportLines({ client, parent, call }: RegistrySession<ExportOptions>): AsyncGenerator<string> {
  const { encodeExportLine } = await import("@persona-mesh/audit");
  for await (const item of client.audit.exportAudit({ parent }, call)) yield `${encodeExportLine(item)}\n`;
}
