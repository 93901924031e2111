import { parseArgs } from "node:util";
import { ScratchFolder } from "./registry/scratch-folder.ts";
import { runStorm } from "./registry/storm.ts";
import { type Verdict, verdictOf } from "./registry/verdict.ts";

const HELP = `Usage: npm run robustness -- registry [OPTIONS]

Random operations of several clients against two registries on one PostgreSQL, while processes are killed, connections
cut, slowed and frozen, and the disk is full; afterwards checkers look for lost writes, gaps in the audit or in what
watchers were told, and aliases that do not behave as one register. Everything runs on this machine, and ends by itself:
a kill takes about 10 seconds.

Options:
  --kills N   processes to end by kill -9 (default 20, at most 1000)
  --seed N    of everything random (default the time)
  --json      print one object, and nothing else, on standard output
  --help      show this

Ends with 0 when nothing was found and enough was tried, with 1 when not, with 2 when it was called wrongly.
`;

const DEFAULT_KILLS = 20;
const MAX_KILLS = 1_000;
const MAX_SEED = 2 ** 32 - 1;

/** By convention 128 + the number of SIGINT. */
const INTERRUPTED = 130;

/** Problems shown to people. */
const MOST_SHOWN = 50;

interface Flags {
  readonly kills: number;
  readonly seed: number;
  readonly json: boolean;
}

const flags = readFlags();
if (flags === "help") process.stdout.write(HELP);
else if (typeof flags === "string") {
  process.stderr.write(`${flags}\n\n${HELP}`);
  process.exitCode = 2;
} else process.exitCode = await main(flags);

/** What the command line asks for; else what is wrong with it. */
function readFlags(): Flags | string {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { kills: text, seed: text, json: flag, help: flag },
    });
    if (values.help) return "help";
    const name = positionals.join(" ");
    if (name !== "registry") return name === "" ? "nothing is named to be tried" : `nothing is called "${name}"`;
    return {
      kills: wholeNumber("kills", values.kills ?? String(DEFAULT_KILLS), 1, MAX_KILLS),
      seed: wholeNumber("seed", values.seed ?? String(Date.now() % 1_000_000), 0, MAX_SEED),
      json: values.json,
    };
  } catch (error) {
    return (error as Error).message;
  }
}

function wholeNumber(name: string, text: string, least: number, most: number): number {
  const value = /^[0-9]{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new Error(`--${name} must be a whole number from ${least} to ${most}, and is "${text}"`);
}

async function main({ kills, seed, json }: Flags): Promise<number> {
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      // What was started has to go again, however often we are asked.
      if (!interrupt.signal.aborted) process.stderr.write("ending: a moment\n");
      interrupt.abort();
    });
  }
  await using scratch = await ScratchFolder.open();
  // For us and all that we start: one place, that goes in one piece.
  process.env["TMPDIR"] = scratch.path;
  process.stderr.write(`seed ${seed}\n`);
  const report = await runStorm({
    kills,
    seed,
    disk: await scratch.mountDisk(),
    signal: interrupt.signal,
    onFault: (name, done) => process.stderr.write(`${done}/${kills} kills · ${name}\n`),
  });
  if (report === undefined) return INTERRUPTED;
  const verdict = verdictOf(report, seed);
  process.stdout.write(json ? `${JSON.stringify(verdict)}\n` : people(verdict));
  return verdict.problems.length === 0 ? 0 : 1;
}

function people(verdict: Verdict): string {
  const rows = Object.entries({
    ...verdict.faults,
    ...Object.fromEntries(verdict.untried.map((name) => [name, "not tried"])),
  });
  return [
    "",
    ...rows.map(([name, times]) => `  ${name.padEnd(52)} ${times}`),
    "",
    `kills ${verdict.kills} · acknowledged ${verdict.acknowledged} · lost ${verdict.lost} · changes watched ${verdict.watched}`,
    `audit ${verdict.auditVerified ? "verified" : "BROKEN"} · watch violations ${verdict.watchViolations} · aliases ${verdict.linearizable ? "linearizable" : "NOT LINEARIZABLE"}`,
    ...verdict.problems.slice(0, MOST_SHOWN).map((problem) => `FOUND: ${problem}`),
    "",
  ].join("\n");
}
