import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";

const MAIN = fileURLToPath(new URL("../demo/src/main.ts", import.meta.url));

/** Few replies, so that shares are too coarse to judge: what is judged here is the story, not its figures. */
const REPLIES = "8";

async function demo(...args: string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const [out, err] = [text(child.stdout), text(child.stderr)];
  const [code] = (await once(child, "close")) as [number | null];
  return { code, out: await out, err: await err };
}

it("tells the whole story on a real worker and prints one object", async () => {
  const { code, out, err } = await demo("--json", "--replies", REPLIES);
  // 1: a figure was not reached, which eight replies cannot decide.
  expect([0, 1], err).toContain(code);
  const figures = JSON.parse(out);
  expect(Object.keys(figures)).toEqual([
    "personas",
    "unsteeredRowIdentical",
    "switchMicros",
    "tokensPerSecond",
    "propagationMillisP99",
    "auditVerified",
  ]);
  expect(figures.auditVerified).toBe(true);
  expect(figures.propagationMillisP99).toBeGreaterThan(0);
  expect(figures.unsteeredRowIdentical).toBe(true);
  expect(figures.switchMicros).toBeGreaterThan(0);
  expect(figures.tokensPerSecond).toBeGreaterThan(0);
  expect(figures.personas).toHaveLength(2);
  for (const persona of figures.personas) {
    expect(Object.keys(persona)).toEqual([
      "name",
      "alpha",
      "layers",
      "toneShare",
      "baselineToneShare",
      "systemLineToneShare",
      "randomToneShareMax",
      "onTopicShare",
      "baselineOnTopicShare",
      "coherence",
      "baselineCoherence",
    ]);
    // Eight replies are enough to tell a persona from none.
    expect(persona.toneShare).toBeGreaterThan(persona.baselineToneShare);
    expect(persona.alpha).toBeLessThanOrEqual(0.5);
  }
  expect(err).toContain("drained and ended");
}, 180_000);

it("refuses options that it does not understand", async () => {
  expect(await demo("--replies", "few")).toMatchObject({ code: 2, out: "" });
});
