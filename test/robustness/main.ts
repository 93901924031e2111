import { parseArgs } from "node:util";
import { runStorm, type StormReport } from "./registry/storm.ts";

const HELP = `Usage: npm run robustness -- registry [OPTIONS]

Random operations of several clients against two registries on one PostgreSQL, while processes are killed and connections
cut, slowed and frozen; afterwards a checker looks for lost writes, gaps in the audit or in what watchers were told, and
aliases that do not behave as one register. Everything runs on this machine, and ends by itself.

Options:
  --kills N   processes to end by kill -9 (default 20)
  --seed N    of everything random (default the time)
  --json      print one object, and nothing else, on standard output
  --help      show this

Ends with 0 when nothing was found and enough was tried, else with 1.
`;

const DEFAULT_KILLS = 20;
const MAX_KILLS = 1_000;

/** Acknowledged writes per kill below which the run says nothing. */
const LEAST_WRITES = 5;

/** By convention 128 + the number of SIGINT. */
const INTERRUPTED = 130;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kills: { type: "string", default: String(DEFAULT_KILLS) },
    seed: { type: "string" },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

if (values.help) process.stdout.write(HELP);
else process.exitCode = await main();

async function main(): Promise<number> {
  const kills = Number(values.kills);
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  if (positionals.join() !== "registry" || !Number.isSafeInteger(kills) || kills < 1 || kills > MAX_KILLS) {
    process.stderr.write(HELP);
    return 2;
  }
  const interrupt = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => interrupt.abort());
  }
  process.stderr.write(`seed ${seed}\n`);
  const report = await runStorm({
    kills,
    seed,
    signal: interrupt.signal,
    onFault: (name, done) => process.stderr.write(`${done}/${kills} kills · ${name}\n`),
  });
  if (interrupt.signal.aborted) return INTERRUPTED;
  const verdict = verdictOf(report);
  process.stdout.write(
    values.json ? `${JSON.stringify({ ...verdict, seed, ...details(report) })}\n` : people(report, verdict),
  );
  return verdict.problems.length === 0 ? 0 : 1;
}

interface Verdict {
  readonly kills: number;
  readonly acknowledged: number;
  readonly lost: number;
  readonly auditVerified: boolean;
  readonly watchViolations: number;
  readonly linearizable: boolean;
  readonly problems: readonly string[];
}

function verdictOf({ kills, acknowledged, watched, findings }: StormReport): Verdict {
  const { lost, audit, watch, registers } = findings;
  const tooLittle = [
    ...(acknowledged < kills * LEAST_WRITES
      ? [`only ${acknowledged} writes were acknowledged: that shows little`]
      : []),
    ...(watched < kills ? [`only ${watched} changes were watched: that shows little`] : []),
  ];
  return {
    kills,
    acknowledged,
    lost: lost.length,
    auditVerified: audit.length === 0,
    watchViolations: watch.length,
    linearizable: registers.length === 0,
    problems: [...lost, ...audit, ...watch, ...registers, ...tooLittle],
  };
}

function details({ faults, untried, answers, watched }: StormReport) {
  return { watched, faults, untried, answers };
}

function people(report: StormReport, verdict: Verdict): string {
  const rows = Object.entries({
    ...report.faults,
    ...Object.fromEntries(report.untried.map((name) => [name, "not tried"])),
  });
  return [
    "",
    ...rows.map(([name, times]) => `  ${name.padEnd(52)} ${times}`),
    "",
    `kills ${verdict.kills} · acknowledged ${verdict.acknowledged} · lost ${verdict.lost} · changes watched ${report.watched}`,
    `audit ${verdict.auditVerified ? "verified" : "BROKEN"} · watch violations ${verdict.watchViolations} · aliases ${verdict.linearizable ? "linearizable" : "NOT LINEARIZABLE"}`,
    ...verdict.problems.slice(0, 50).map((problem) => `FOUND: ${problem}`),
    "",
  ].join("\n");
}
