import { parseArgs } from "node:util";
import { unmet } from "./expectations.ts";
import { type DemoFigures, tellStory } from "./story.ts";

const HELP = `Usage: npm run demo [-- OPTIONS]

Imports the starter checkpoint, starts a registry and a worker, learns two personas from contrastive prompts, publishes them
for two tenants, has a second person approve them, serves both in one batch, measures what they do, switches one live, rolls
a version back and verifies the audit. Cleans up and ends by itself, in about two minutes.

Options:
  --json         print one object with the figures, and nothing else, on standard output
  --replies N    replies per measured condition, at least 8 (default 200)
  --help         show this
`;

const DEFAULT_REPLIES = 200;

/** A coherence baseline needs as many. */
const MIN_REPLIES = 8;

/** By convention 128 + the number of SIGINT. */
const INTERRUPTED = 130;

const { values } = parseArgs({
  options: { json: { type: "boolean" }, replies: { type: "string" }, help: { type: "boolean" } },
});

if (values.help) process.stdout.write(HELP);
else process.exitCode = await main();

async function main(): Promise<number> {
  const replies = Number(values.replies ?? DEFAULT_REPLIES);
  if (!Number.isSafeInteger(replies) || replies < MIN_REPLIES) {
    process.stderr.write(`--replies takes a whole number from ${MIN_REPLIES}\n`);
    return 2;
  }
  const interrupt = new AbortController();
  process.once("SIGINT", () => interrupt.abort(new Error("interrupted")));
  process.once("SIGTERM", () => interrupt.abort(new Error("interrupted")));
  try {
    const figures = await tellStory({ replies, signal: interrupt.signal, ...narrator() });
    process.stdout.write(values.json ? `${JSON.stringify(figures)}\n` : report(figures));
    const missing = unmet(figures);
    for (const sentence of missing) process.stderr.write(`NOT SHOWN: ${sentence}\n`);
    return missing.length === 0 ? 0 : 1;
  } catch (error) {
    if (interrupt.signal.aborted) {
      process.stderr.write("\ninterrupted; everything was stopped and removed\n");
      return INTERRUPTED;
    }
    process.stderr.write(`\nthe demo failed: ${error instanceof Error ? (error.stack ?? error.message) : error}\n`);
    return 1;
  }
}

/** The story goes to standard error, so that `--json` leaves standard output to the object. */
function narrator() {
  const isTerminal = process.stderr.isTTY === true;
  let step = 0;
  let inProgress = false;
  const line = (text: string) => {
    process.stderr.write(`${inProgress ? "\r\u001b[K" : ""}${text}\n`);
    inProgress = false;
  };
  return {
    onStep: (text: string) => line(`\n${++step}. ${text}`),
    onShown: (text: string) => line(`   ${text}`),
    onProgress: (done: number, total: number) => {
      if (!isTerminal) return;
      process.stderr.write(`\r\u001b[K   ${done}/${total}`);
      inProgress = true;
    },
  };
}

function report({ personas, unsteeredRowIdentical, ...figures }: DemoFigures): string {
  const share = (value: number) => value.toFixed(2).padStart(11);
  const rows = personas.map(
    (p) =>
      `${p.name.padEnd(34)}${p.alpha.toFixed(2).padStart(6)}${p.layers.join(",").padStart(10)}` +
      [p.toneShare, p.baselineToneShare, p.systemLineToneShare, p.randomToneShareMax, p.onTopicShare, p.coherence]
        .map(share)
        .join(""),
  );
  const header =
    `${"persona".padEnd(34)}${"alpha".padStart(6)}${"layers".padStart(10)}` +
    ["tone", "unsteered", "told", "random", "on topic", "coherence"].map((name) => name.padStart(11)).join("");
  const [first] = personas;
  return [
    "",
    header,
    ...rows,
    "",
    `unsteered: on topic ${first?.baselineOnTopicShare.toFixed(2)}, coherence ${first?.baselineCoherence.toFixed(2)}`,
    `unsteered row bit-identical beside steered rows: ${unsteeredRowIdentical ? "yes" : "NO"}`,
    `persona switch: ${figures.switchMicros.toFixed(0)} µs from decision to the row that the next step reads`,
    `propagation: p99 ${figures.propagationMillisP99.toFixed(0)} ms from the call at the registry to the stream that has changed`,
    `audit: ${figures.auditVerified ? "verified" : "NOT VERIFIED"}`,
    `throughput: ${figures.tokensPerSecond.toFixed(0)} tokens/s over gRPC, 16 rows in the batch`,
    "",
  ].join("\n");
}
