import { describe, expect, it } from "vitest";
import { unmet } from "./expectations.ts";
import type { DemoFigures, PersonaFigures } from "./story.ts";

const GOOD: PersonaFigures = {
  name: "p",
  alpha: 0.3,
  layers: [1],
  toneShare: 0.9,
  baselineToneShare: 0.1,
  systemLineToneShare: 1,
  randomToneShareMax: 0.2,
  onTopicShare: 0.9,
  baselineOnTopicShare: 1,
  coherence: 0.81,
  baselineCoherence: 0.9,
};

function figures(change: Partial<PersonaFigures> = {}, rest: Partial<DemoFigures> = {}): DemoFigures {
  const shown = {
    unsteeredRowIdentical: true,
    switchMicros: 20,
    tokensPerSecond: 1000,
    propagationMillisP99: 30,
    auditVerified: true,
  };
  return { personas: [{ ...GOOD, ...change }], ...shown, ...rest };
}

describe("unmet", () => {
  it("is empty when everything just reaches its bound", () => {
    expect(unmet(figures())).toEqual([]);
  });

  it.each([
    [{ toneShare: 0.89 }, "tone share"],
    [{ onTopicShare: 0.89 }, "on-topic share"],
    [{ coherence: 0.8 }, "coherence"],
    [{ randomToneShareMax: 0.21 }, "random direction"],
  ])("names what a persona missed: %j", (change, words) => {
    expect(unmet(figures(change))).toEqual([expect.stringContaining(words)]);
  });

  it.each([
    [{ unsteeredRowIdentical: false }, "unsteered row"],
    [{ switchMicros: Number.NaN }, "live switch"],
    [{ tokensPerSecond: 0 }, "throughput"],
    [{ propagationMillisP99: Number.NaN }, "propagation"],
    [{ auditVerified: false }, "audit"],
  ])("names what the demo missed: %j", (rest, words) => {
    expect(unmet(figures({}, rest))).toEqual([expect.stringContaining(words)]);
  });
});
