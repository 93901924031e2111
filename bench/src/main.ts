import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Bench } from "./benches/bench.ts";
import { decodeBench } from "./benches/decode.ts";
import { guardBench } from "./benches/guard.ts";
import { importBench } from "./benches/import.ts";
import { loadBench } from "./benches/load.ts";
import { longContextBench } from "./benches/long-context.ts";
import { loraBench } from "./benches/lora.ts";
import { peersBench } from "./benches/peers.ts";
import { prefillBench } from "./benches/prefill.ts";
import { propagationBench } from "./benches/propagation.ts";
import { registryBench } from "./benches/registry.ts";
import { soakBench } from "./benches/soak.ts";
import { steeringBench } from "./benches/steering.ts";
import { figureTable } from "./figure.ts";
import { machine } from "./machine.ts";

const BENCHES: readonly Bench[] = [
  steeringBench,
  decodeBench,
  prefillBench,
  importBench,
  peersBench,
  propagationBench,
  registryBench,
  loadBench,
  soakBench,
  guardBench,
  longContextBench,
  loraBench,
];

const HELP = `Usage: npm run bench -- NAME [--json] [OPTIONS]

${BENCHES.map(describe).join("")}
Figures are medians over interleaved blocks. Nothing else should run beside a bench; the machine's load is printed.
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: "boolean" }, help: { type: "boolean" }, ...ownOptions() },
});
const bench = BENCHES.find(({ name }) => name === positionals[0]);

if (values.help) process.stdout.write(HELP);
else if (bench === undefined || positionals.length > 1) {
  process.stderr.write(`${positionals[0] === undefined ? "" : `no bench "${positionals.join(" ")}"\n\n`}${HELP}`);
  process.exitCode = 2;
} else await run(bench);

function describe({ name, description, options = {} }: Bench): string {
  const lines = Object.entries(options).map(
    ([option, { description, default: value }]) => `${" ".repeat(14)}--${option}: ${description} (${value})\n`,
  );
  return `  ${name.padEnd(12)}${description}\n${lines.join("")}`;
}

/** The options of all benches; one bench does not look at another's. */
function ownOptions(): Record<string, { type: "string" }> {
  return Object.fromEntries(
    BENCHES.flatMap(({ options = {} }) => Object.keys(options)).map((name) => [name, { type: "string" }]),
  );
}

async function run({ name, run, options = {} }: Bench): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), `persona-bench-${name}-`));
  const remove = () => rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
  process.once("exit", remove);
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
  const started = machine();
  const given = values as Record<string, string | boolean | undefined>;
  const figures = await run({
    directory,
    onProgress: (text) => process.stderr.write(`${name}: ${text}\n`),
    options: Object.fromEntries(
      Object.entries(options).map(([option, { default: value }]) => [option, String(given[option] ?? value)]),
    ),
  });
  if (values.json) process.stdout.write(`${JSON.stringify({ bench: name, machine: started, figures })}\n`);
  else {
    const described = Object.entries(started).map(([key, value]) => `${key} ${value}`);
    process.stdout.write(`\n${described.join(", ")}\n\n${figureTable(figures)}`);
  }
}
