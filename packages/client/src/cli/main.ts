import { ExitCode } from "./exit-code.ts";
import { type CliIo, InterruptedError } from "./io.ts";
import { runCli } from "./run.ts";
import { traceCalls } from "./trace-calls.ts";

/** After an interrupt, what still runs gets this long to clean up behind itself. */
const CLEAN_UP_MILLIS = 3_000;

// What Node.js itself has to say would stand between the lines of an error that a program reads.
process.noDeprecation = true;

const interrupt = new AbortController();

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    const exitCode = signal === "SIGINT" ? ExitCode.INTERRUPTED : ExitCode.TERMINATED;
    // A second one means it: now.
    if (interrupt.signal.aborted) process.exit(exitCode);
    interrupt.abort(new InterruptedError(signal));
    setTimeout(() => process.exit(exitCode), CLEAN_UP_MILLIS).unref();
  });
}

for (const stream of [process.stdout, process.stderr]) {
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
    interrupt.abort(new InterruptedError("SIGPIPE"));
  });
}

const io: CliIo = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  cwd: process.cwd(),
  signal: interrupt.signal,
};

const tracing = await traceCalls(process.env);
process.exitCode = await runCli(process.argv.slice(2), io);
await tracing?.close();
// An unread pipe on the standard input would keep the process; everything else is closed by now.
process.stdin.destroy();
