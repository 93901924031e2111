import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { ExportReport } from "@persona-mesh/audit";
import type { Command } from "commander";
import { readBoundedFile } from "../../../json-file.ts";
import { LocalError } from "../../../local-error.ts";
import { CommandContext } from "../../context.ts";
import type { CliIo } from "../../io.ts";
import { examples, fields } from "../../registry/output.ts";
import { table } from "../../table.ts";
import { printable } from "../../text-layout.ts";

/** A set of a thousand keys. */
const MAX_KEYS_BYTES = 1 << 18;

interface VerifyFileOptions {
  keys?: string;
  roots?: string;
}

export function addAuditVerify(audit: Command, io: CliIo): void {
  audit
    .command("verify")
    .description("Verify an export, offline; names the first bad entry, and ends with 5 where there is one")
    .argument("<file>", "as audit export writes it")
    .option("--keys <file>", "keys that you trust, got elsewhere than from the export (JSON Web Key Set)")
    .option("--roots <file>", "signed roots that are kept outside the database")
    .addHelpText(
      "after",
      examples(
        ["audit verify acme.jsonl", "audit verify acme.jsonl --keys audit-key.jwks.json --roots audit-roots.jsonl"],
        "With --tenant it must be that tenant's. Without --keys and --roots less is proven; a warning says what.",
      ),
    )
    .action((file: string, _options, self: Command) => {
      // A tenant from the environment is a default, which says nothing of this file.
      const isAsked = self.getOptionValueSourceWithGlobals("tenant") === "cli";
      return verifyFile(new CommandContext<VerifyFileOptions>(io, self), file, isAsked);
    });
}

const WARNINGS: Readonly<Record<ExportReport["warnings"][number], string>> = {
  KEYS_NOT_TRUSTED: "the keys are those in the export itself: give --keys, or a forger's export passes too",
  NO_OUTSIDE_ROOTS: "no --roots: a whole database that was put back to an earlier state would not show",
  EXPORT_OLDER: "roots that are kept outside are newer than the export: it says nothing of what came after it",
  UNSIGNED_TAIL: "the newest entries are signed by nobody yet",
};

async function verifyFile(context: CommandContext<VerifyFileOptions>, file: string, isTenantAsked: boolean) {
  const { io, options } = context;
  const { decodeKeySet, readLines, verifyExport } = await import("@persona-mesh/audit");
  const lines = async (name: string) => readLines(createReadStream(await readable(resolve(io.cwd, name))));
  const keys =
    options.keys === undefined ? undefined : await readBoundedFile(resolve(io.cwd, options.keys), MAX_KEYS_BYTES);
  const report = await invalidAs(
    file,
    verifyExport(await lines(file), {
      ...(isTenantAsked ? { tenant: options.tenant } : {}),
      ...(keys === undefined ? {} : { trustedKeys: await invalidAs(options.keys, async () => decodeKeySet(keys)) }),
      ...(options.roots === undefined ? {} : { trustedRoots: await lines(options.roots) }),
    }),
  );
  if (context.json) await context.printJson(reportJson(report));
  else {
    await context.printLines(reportLines(report));
    for (const warning of report.warnings) context.note(`warning ${warning}: ${WARNINGS[warning]}`);
  }
  if (report.ok) return;
  const [first] = report.problems;
  const { firstBad } = report;
  const where = firstBad === undefined ? "" : `first bad entry ${firstBad.chain} ${firstBad.sequence}: `;
  const what = firstBad ?? first;
  const said = what === undefined ? "" : `${what.reason}: ${what.message}`;
  throw new LocalError("AUDIT_BROKEN", `${file} is not what was written; ${where}${said}`);
}

/** @throws LocalError FILE_NOT_FOUND, FILE_INVALID */
async function readable(path: string): Promise<string> {
  const info = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") throw new LocalError("FILE_NOT_FOUND", `no such file: ${path}`, { cause: error });
    throw error;
  });
  if (info.isDirectory()) throw new LocalError("FILE_INVALID", `${path} is a directory`);
  return path;
}

/** What is thrown about a file's content is about the file, and not a defect of the command. */
async function invalidAs<T>(file: string | undefined, read: Promise<T> | (() => Promise<T>)): Promise<T> {
  try {
    return await (typeof read === "function" ? read() : read);
  } catch (error) {
    if (error instanceof LocalError || (error instanceof Error && "syscall" in error)) throw error;
    throw new LocalError("FILE_INVALID", `${file}: ${(error as Error).message}`, { cause: error });
  }
}

function reportLines(report: ExportReport): string[] {
  const { newestRoot, problems, problemCount } = report;
  const chains = Object.entries(report.chains).map(([name, chain]) => ({ name, ...chain }));
  const hidden = problemCount - problems.length;
  return [
    ...fields([
      ["result", report.ok ? "unbroken" : "BROKEN"],
      ["tenant", report.tenant],
      ["exported", report.createTime?.toISOString() ?? ""],
      ["roots", String(report.roots)],
      ["newest root", newestRoot === undefined ? "" : `${newestRoot.number} at ${newestRoot.time}`],
    ]),
    "",
    ...table(
      [
        { heading: "CHAIN", cell: ({ name }) => name },
        { heading: "ENTRIES", align: "right", cell: ({ entries }) => String(entries) },
        { heading: "PROVEN", align: "right", cell: ({ proven }) => String(proven) },
        { heading: "UNSIGNED", align: "right", cell: ({ unsigned }) => String(unsigned) },
      ],
      chains,
    ),
    ...(problems.length === 0 ? [] : [""]),
    ...problems.map(({ reason, message }) => `${reason}: ${printable(message)}`),
    ...(hidden > 0 ? [`and ${hidden} more`] : []),
  ];
}

/** 64-bit numbers as text, as in protobuf's JSON; what does not apply is null. */
function reportJson(report: ExportReport) {
  const text = <T extends object>(value: T): unknown =>
    JSON.parse(JSON.stringify(value, (_key, inner: unknown) => (typeof inner === "bigint" ? inner.toString() : inner)));
  return text({
    ...report,
    createTime: report.createTime ?? null,
    newestRoot: report.newestRoot ?? null,
    firstBad: report.firstBad ?? null,
  });
}
