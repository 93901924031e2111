import { debuglog } from "node:util";
import { CommanderError } from "commander";
import { ExitCode } from "./exit-code.ts";
import { failureOf } from "./failure.ts";
import { type CliIo, InterruptedError } from "./io.ts";
import { buildProgram } from "./program.ts";
import { reportFailure } from "./report.ts";

/** What a failure looked like inside: with NODE_DEBUG=persona. */
const debug = debuglog("persona");

/**
 * Run one command line to its end. Never throws; what goes wrong is printed on stderr.
 *
 * @param argv - without the interpreter and the script
 * @returns the exit code
 */
export async function runCli(argv: readonly string[], io: CliIo): Promise<ExitCode> {
  try {
    await buildProgram(io).parseAsync(argv, { from: "user" });
    return ExitCode.OK;
  } catch (error) {
    // Help that was asked for, and the version.
    if (error instanceof CommanderError && error.exitCode === 0) return ExitCode.OK;
    // A bare `persona model`: its help is already on stderr, and says more than an error would.
    if (error instanceof CommanderError && error.code === "commander.help") return ExitCode.USAGE;
    // What a cancelled call throws is the echo of the interrupt, which is what ended the command.
    const cause = io.signal.aborted && io.signal.reason instanceof InterruptedError ? io.signal.reason : error;
    const failure = failureOf(cause);
    if (failure.exitCode !== ExitCode.BROKEN_PIPE) {
      reportFailure(failure, io, { json: hasFlag(argv, "--json"), color: !hasFlag(argv, "--no-color") });
    }
    debug("%o", error);
    return failure.exitCode;
  }
}

/** Whether a flag is on the command line; options cannot be asked when parsing them is what failed. */
function hasFlag(argv: readonly string[], flag: string): boolean {
  const end = argv.indexOf("--");
  return (end === -1 ? argv : argv.slice(0, end)).includes(flag);
}
