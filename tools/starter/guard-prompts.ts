import { readFileSync } from "node:fs";

/**
 * Prompts that the starter model's guard is measured with, as JSON lines for `persona model baseline`: those that personas are
 * extracted with, every third with a system line. The held-out prompts stay out: the guard is judged on them.
 *
 * Usage: node tools/starter/guard-prompts.ts > prompts.jsonl
 */

/** A file of three temperatures stays under 200 kB. */
const PROMPTS = 360;

const desk = new URL("../../models/starter/desk/", import.meta.url);
const read = <T>(file: string): T => JSON.parse(readFileSync(new URL(file, desk), "utf8"));

interface WithPrompt {
  readonly prompt: string;
}
const { samples } = read<{ samples: WithPrompt[] }>("baseline.json");
const { tones } = read<{ tones: Record<string, { pairs: WithPrompt[] }> }>("pairs.json");
const { systemLines } = read<{ systemLines: Record<string, string> }>("held-out.json");

const all = [...samples, ...Object.values(tones).flatMap(({ pairs }) => pairs)].map(({ prompt }) => prompt);
const distinct = [...new Set(all)];
const lines = Object.values(systemLines);
// From all over the files, as they are ordered by tone.
for (let i = 0; i < PROMPTS; i++) {
  const prompt = distinct[Math.floor((i * distinct.length) / PROMPTS)];
  const system = i % 3 === 0 ? lines[(i / 3) % lines.length] : undefined;
  process.stdout.write(`${JSON.stringify({ prompt, system })}\n`);
}
