import { importCheckpoint, loadPackage } from "@persona-mesh/model";
import type { ImportStep } from "./import.ts";

// One step in a process of its own: its peak of memory is nobody else's. It stays until it is asked how high that was.
process.once("message", async (step: ImportStep) => {
  const begun = performance.now();
  const outcome = await run(step);
  process.send?.({ outcome, seconds: (performance.now() - begun) / 1000 });
});

async function run(step: ImportStep): Promise<string> {
  if (step.kind === "verify") {
    await loadPackage(step.directory);
    return "verified";
  }
  const { checkpoint, directory, precision } = step;
  let shown = -1;
  const { outcome } = await importCheckpoint(checkpoint, directory, {
    precision,
    onProgress: ({ phase, fraction }) => {
      const tenth = Math.floor(fraction * 10);
      if (tenth > shown) process.stderr.write(`import: ${phase} ${tenth * 10} %\n`);
      shown = Math.max(shown, tenth);
    },
  });
  return outcome;
}
