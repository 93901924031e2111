import { describe, expect, it } from "vitest";
import type { RopeSpec } from "./decoder-spec.ts";
import { ropeFrequencies, ropeTables } from "./rope.ts";

/** Frequencies are compared with the reference's where published configs are read, and all else in the conformance tests. */
const PLAIN: RopeSpec = { theta: 500_000, rotaryDim: 128, scaling: { kind: "none" } };

describe("rotary tables", () => {
  it("hold cos and sin by position and frequency, exact to float32 at the end of a long context", () => {
    const positions = 100_000;
    const rope: RopeSpec = { theta: 10_000, rotaryDim: 4, scaling: { kind: "none" } };
    const { cos, sin } = ropeTables(rope, positions);
    expect(cos).toHaveLength(positions * 2);
    // Frequencies 1 and 1/100. A float32 product of the latter and the position is off by 2e-5 rad here.
    for (const [position, frequency, angle] of [
      [0, 0, 0],
      [1, 0, 1],
      [1, 1, 0.01],
      [99_999, 0, 99_999],
      [99_999, 1, 999.99],
    ] as const) {
      expect(cos[2 * position + frequency]).toBe(Math.fround(Math.cos(angle)));
      expect(sin[2 * position + frequency]).toBe(Math.fround(Math.sin(angle)));
    }
  });

  it("are both multiplied by the attention factor", () => {
    const yarn = { factor: 4, originalContext: 8192, betaFast: 32, betaSlow: 1, truncate: true } as const;
    const tables = (attentionFactor: number) =>
      ropeTables({ ...PLAIN, scaling: { kind: "yarn", ...yarn, attentionFactor } }, 3);
    const [once, twice] = [tables(1), tables(2)];
    expect(twice.cos).toEqual(once.cos.map((x) => 2 * x));
    expect(twice.sin).toEqual(once.sin.map((x) => 2 * x));
    expect(once.sin.some((x) => x !== 0)).toBe(true);
  });

  it("refuse factors that are not one per frequency", () => {
    const scaling = { kind: "longrope", factors: [1, 2, 3], attentionFactor: 1 } as const;
    expect(() => ropeTables({ ...PLAIN, scaling }, 1)).toThrow(/3 factors for 64 frequencies of 128 rotated elements/);
  });
});

describe("rope scalings", () => {
  const frequencies = (scaling: RopeSpec["scaling"]) => ropeFrequencies({ ...PLAIN, scaling });
  const plain = frequencies({ kind: "none" });
  const longest = plain.length - 1;

  it("keep what turns often in the original context and stretch what turns less than once, without a step between", () => {
    const context = { factor: 8, originalContext: 8192 } as const;
    for (const scaling of [
      { kind: "llama3", lowFreqFactor: 1, highFreqFactor: 4, ...context },
      { kind: "yarn", betaFast: 32, betaSlow: 1, truncate: false, attentionFactor: 1, ...context },
    ] as const) {
      const shares = frequencies(scaling).map((frequency, j) => frequency / (plain[j] as number));
      expect(shares[0]).toBe(1);
      expect(shares[longest]).toBeCloseTo(1 / 8, 12);
      const steps = shares.slice(1).map((share, j) => (shares[j] as number) - share);
      expect(Math.min(...steps)).toBeGreaterThanOrEqual(0);
      expect(steps.filter((step) => step > 0).length, scaling.kind).toBeGreaterThan(4);
    }
  });

  it("give a yarn range without extent a step, not a division by zero", () => {
    const scaling = {
      kind: "yarn",
      factor: 4,
      originalContext: 4,
      betaFast: 2,
      betaSlow: 1,
      truncate: true,
      attentionFactor: 1,
    } as const;
    const found = ropeFrequencies({ theta: 1e30, rotaryDim: 16, scaling });
    // As transformers has it: the first is kept, the others are a quarter.
    expect(found[0]).toBe(1);
    expect(found[1]).toBeCloseTo(4.4457e-5, 8);
    expect(found.every(Number.isFinite)).toBe(true);
  });
});
