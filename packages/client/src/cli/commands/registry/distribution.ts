import { WorkerStateSchema, type WorkerStatus } from "@persona-mesh/protocol/registry";
import { type Command, InvalidArgumentError } from "commander";
import { everyPage } from "../../../registry/every-page.ts";
import { enumName } from "../../enum-name.ts";
import type { CliIo } from "../../io.ts";
import { digest, time } from "../../registry/cells.ts";
import { messageJson } from "../../registry/message-json.ts";
import { examples } from "../../registry/output.ts";
import { onRegistry, type RegistrySession } from "../../registry/session.ts";
import { table } from "../../table.ts";
import { printable } from "../../text-layout.ts";

interface ShowOptions {
  revision?: bigint;
  model?: string;
}

/** `persona distribution show`: which workers have what. */
export function addDistributionCommands(distribution: Command, io: CliIo): void {
  const show = distribution
    .command("show")
    .description("Show which workers have what, and what they could not take on")
    .option("--revision <n>", "who is at or past it; the newest where not given", revisionOption)
    .option("--model <checksum>", "only workers of this model checksum")
    .addHelpText("after", examples(["distribution show", "distribution show --revision 42 --json"]));
  onRegistry<ShowOptions>(show, io, { roles: ["viewer"] }, showDistribution);
}

function revisionOption(value: string): bigint {
  if (/^\d{1,19}$/.test(value)) return BigInt(value);
  throw new InvalidArgumentError("It must be a whole number.");
}

async function showDistribution({ client, context, parent, call }: RegistrySession<ShowOptions>): Promise<void> {
  const { revision = 0n, model: modelChecksum = "" } = context.options;
  let newest = 0n;
  const workers: WorkerStatus[] = await Array.fromAsync(
    everyPage(
      (page) => client.distribution.getDistribution(page, call),
      { parent, revision, modelChecksum },
      (page) => {
        newest = page.revision;
        return page.workers;
      },
    ),
  );
  if (context.json) {
    await context.printJson({ revision: newest.toString(), workers: workers.map(messageJson) });
    return;
  }
  context.note(`revision ${newest}`);
  if (workers.length === 0) {
    context.note("no worker has ever reported");
    return;
  }
  await context.printLines([
    ...table<WorkerStatus>(
      [
        { heading: "WORKER", cell: ({ worker }) => printable(worker) },
        { heading: "MODEL", cell: (it) => digest(it.modelChecksum) },
        { heading: "STATE", cell: ({ state }) => enumName(WorkerStateSchema, state) },
        { heading: "APPLIED", align: "right", cell: ({ appliedRevision }) => String(appliedRevision) },
        { heading: "REACHED", cell: ({ reached }) => (reached ? "yes" : "no") },
        { heading: "CONNECTED", cell: ({ connected }) => (connected ? "yes" : "no") },
        { heading: "REPORTED", cell: ({ reportTime }) => time(reportTime) },
      ],
      workers,
    ),
    ...workers.flatMap(({ worker, problems }) =>
      problems.map(
        ({ resource, reason, message }) =>
          `${printable(worker)}: ${printable(resource)} ${printable(reason)}: ${printable(message)}`,
      ),
    ),
  ]);
}
