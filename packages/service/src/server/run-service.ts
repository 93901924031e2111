import { setLogger } from "@grpc/grpc-js";
import { describeConfig, describeOptions } from "../config/describe.ts";
import { type Config, loadConfig } from "../config/load.ts";
import type { Options, Values } from "../config/option.ts";
import { checkServiceConfig, type SERVICE_OPTIONS } from "../config/service-options.ts";
import { reasonEntry } from "../errors/reasons.ts";
import { ServiceError } from "../errors/service-error.ts";
import { createLogger, type Logger } from "../log.ts";
import { startTracing, type Tracing } from "../telemetry/tracing.ts";

export interface ServiceProgram<Set extends typeof SERVICE_OPTIONS & Options> {
  /** In log lines and in `--help`. */
  readonly name: string;
  readonly description: string;
  /** SERVICE_OPTIONS and the service's own. */
  readonly options: Set;
  /** `PERSONA_*` variables that belong to other programs. */
  readonly foreignEnvironment?: readonly string[];
  /** Start everything; the result is closed when the process is told to end. */
  start(values: Values<Set>, log: Logger): Promise<RunningService>;
}

export interface RunningService {
  /** Drain and end. */
  close(): Promise<void>;
}

/**
 * The main function of a service: configuration, logs, start, signals, exit codes. SIGTERM and SIGINT drain and end with
 * 0; a second one ends at once. A start that fails ends with the exit code of its reason. What nobody caught is logged
 * and ends the process with 1: its state is unknown.
 */
export async function runService<Set extends typeof SERVICE_OPTIONS & Options>(
  program: ServiceProgram<Set>,
): Promise<void> {
  const args = process.argv.slice(2);
  if (args.includes("--help")) {
    process.stdout.write(`${program.name}: ${program.description}\n\n${describeOptions(program.options)}`);
    return;
  }
  const config = readConfig(program, args);
  if (config === undefined) return;
  if (args.includes("--print-config")) {
    process.stdout.write(`${describeConfig(config)}\n`);
    return;
  }

  const values: Values<Set> = config.values;
  const log = createLogger(program.name, (values as Values<typeof SERVICE_OPTIONS>).logLevel);
  for (const event of ["uncaughtException", "unhandledRejection"] as const) {
    process.on(event, (error: unknown) => {
      log.fatal({ err: error }, event);
      process.exit(1);
    });
  }
  // grpc-js reports to the console what its callers get as errors anyway.
  const forward = (...parts: unknown[]) => log.debug({ from: "grpc-js" }, parts.join(" "));
  setLogger({ debug: forward, info: forward, error: forward });

  let running: RunningService | undefined;
  let tracing: Tracing | undefined;
  const end = async (service: RunningService) => {
    await service.close();
    await tracing?.close();
  };
  let asked = false;
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      // By convention 128 + the signal's number.
      if (asked) process.exit(signal === "SIGTERM" ? 143 : 130);
      asked = true;
      log.info({ signal }, "asked to end");
      // Before the start is complete no call was let in: there is nothing to drain.
      if (running === undefined) process.exit(0);
      end(running).then(
        () => process.exit(0),
        (error: unknown) => {
          log.fatal({ err: error }, "the drain failed");
          process.exit(1);
        },
      );
    });
  }

  try {
    const common = values as Values<typeof SERVICE_OPTIONS>;
    // Before anything is touched: a service that will not serve migrates no database.
    checkServiceConfig(common);
    const { otlpEndpoint, traceSampleRatio } = common;
    tracing = await startTracing({ service: program.name, endpoint: otlpEndpoint, sampleRatio: traceSampleRatio }, log);
    running = await program.start(values, log);
  } catch (error) {
    process.exit(reportStartFailure(error, log));
  }
}

function readConfig<Set extends Options>(
  program: Pick<ServiceProgram<Set & typeof SERVICE_OPTIONS>, "name" | "options" | "foreignEnvironment">,
  args: readonly string[],
): Config<Set & typeof SERVICE_OPTIONS> | undefined {
  try {
    return loadConfig(program.options, {
      args: args.filter((arg) => arg !== "--print-config"),
      environment: process.env,
      ...(program.foreignEnvironment === undefined ? {} : { foreignEnvironment: program.foreignEnvironment }),
    });
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    process.stderr.write(`${program.name}: ${error.reason}\n${error.message}\n\n--help lists all options.\n`);
    process.exitCode = exitCodeOf(error);
    return undefined;
  }
}

/** The exit code of a failed start, by its reason. */
export function exitCodeOf(error: unknown): number {
  return (error instanceof ServiceError ? reasonEntry(error.reason).exitCode : undefined) ?? 1;
}

function reportStartFailure(error: unknown, log: Logger): number {
  if (error instanceof ServiceError) log.fatal({ reason: error.reason, err: error.cause }, error.message);
  else log.fatal({ err: error }, "the service cannot start");
  return exitCodeOf(error);
}
