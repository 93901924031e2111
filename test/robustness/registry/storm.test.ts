import { describe, expect, test } from "vitest";
import { StormCommand } from "./storm-command.ts";
import type { Verdict } from "./verdict.ts";

const FAULTS = 10;

/** Of a storm that takes half a minute, on a machine that is very busy. Milliseconds. */
const PATIENCE = 300_000;

describe("the storm", () => {
  test(
    "finds nothing in a sound registry, under every fault",
    async () => {
      const storm = await StormCommand.start("registry", "--kills", "3", "--seed", "7", "--json");
      const code = await storm.ended;
      const verdict = JSON.parse(storm.stdout || "{}") as Verdict;
      expect(verdict, storm.stderr).toMatchObject({
        kills: 3,
        lost: 0,
        auditVerified: true,
        watchViolations: 0,
        linearizable: true,
        problems: [],
        seed: 7,
      });
      expect(code).toBe(0);
      expect(Object.keys(verdict).slice(0, 6)).toEqual([
        "kills",
        "acknowledged",
        "lost",
        "auditVerified",
        "watchViolations",
        "linearizable",
      ]);
      // A full disk takes root.
      expect(Object.keys(verdict.faults).length + verdict.untried.length).toBe(FAULTS);
      expect(verdict.acknowledged).toBeGreaterThanOrEqual(30);
      expect(verdict.watched).toBeGreaterThanOrEqual(6);
      expect(await storm.leftovers()).toEqual([]);
    },
    PATIENCE,
  );

  test.each([
    ["while it starts", "seed"],
    ["in the middle of it", "kills ·"],
  ])("interrupted %s it ends, says nothing and leaves nothing behind", async (_, words) => {
    const storm = await StormCommand.start("registry", "--kills", "1000", "--json");
    await storm.interruptAfter(words);
    expect(await storm.ended, storm.stderr).toBe(130);
    expect(storm.stdout).toBe("");
    expect(await storm.leftovers()).toEqual([]);
  });

  test.each([
    [["registry", "--kills", "0"], '--kills must be a whole number from 1 to 1000, and is "0"'],
    [["registry", "--seed", "99999999999"], "--seed must be"],
    [["registry", "--nonsense"], "--nonsense"],
    [[], "nothing is named"],
  ])("called as %j it says what is wrong, and how it is called", async (args, words) => {
    const storm = await StormCommand.start(...args);
    expect(await storm.ended).toBe(2);
    expect(storm.stderr).toContain(words);
    expect(storm.stderr).toContain("Usage: npm run robustness");
    expect(storm.stdout).toBe("");
    expect(await storm.leftovers()).toEqual([]);
  });
});
