import { DEFAULT_GUARD_POLICY, type GuardPolicy } from "@persona-mesh/steering";
import { expect, test } from "vitest";
import { type PersonaSource, WornPersona } from "../engine/worn-persona.ts";
import { SteeringTable } from "../table/index.ts";
import { personaOf, rowAlong } from "../testing/personas.ts";
import { type GuardSettings, ReplyGuard } from "./reply-guard.ts";

const POLICY: GuardPolicy = { ...DEFAULT_GUARD_POLICY, windowTokens: 8 };
const BAND = { windowTokens: 8, meanEntropy: 1, low: 0.5, high: 1.5, repetition: 0.75, measuredTokens: 8, replies: 99 };
const COHERENCE = {
  meanTokens: 20,
  meanEntropy: 1,
  entropyStd: 0.1,
  meanSurprisal: 1,
  surprisalStd: 0.1,
  meanGap: 0,
  gapStd: 0.1,
  meanRepetition: 0.1,
  repetitionStd: 0.05,
};
const ONE = personaOf("one", new Map([[0, rowAlong(2, 1)]]));
const TWO = personaOf("two", new Map([[0, rowAlong(2, 2)]]), { largestAlphaHundredths: 30 });

function guarded(settings: Partial<GuardSettings> = {}, source: Partial<PersonaSource> = {}) {
  const table = new SteeringTable({ rows: 5, hidden: 2, layers: 1 });
  const worn = new WornPersona(table, { current: () => ONE, follow: false, gain: 1, ...source });
  worn.admit();
  const baseline = { band: BAND, coherence: COHERENCE };
  return {
    worn,
    guard: new ReplyGuard(worn, { policy: POLICY, baseline, observeOnly: false, twinActs: true, ...settings }),
  };
}

let fresh = 0;
const write = (guard: ReplyGuard, count: number, entropy: number) => {
  for (let i = 0; i < count; i++) guard.take({ id: fresh++, entropy });
};

test("a window out of bounds lowers what the request wears, and says so", () => {
  const { worn, guard } = guarded();
  write(guard, 8, 3);
  expect(guard.events).toMatchObject([{ cause: "ENTROPY_HIGH", alphaBeforeHundredths: 50, alphaAfterHundredths: 40 }]);
  expect(worn.steering.gain).toBe(0.8);
  write(guard, 8 * 8, 3);
  expect(worn.steering.gain).toBe(0);
  expect(guard.alphas.map(({ alphaHundredths }) => alphaHundredths)).toEqual([50, 40, 30, 20, 10, 0]);
});

test("a guard that observes, by policy or by request, leaves it as it is", () => {
  for (const settings of [{ observeOnly: true }, { policy: { ...POLICY, observeOnly: true } }]) {
    const { worn, guard } = guarded(settings);
    write(guard, 16, 3);
    expect(guard.events).toHaveLength(1);
    expect(worn.steering.gain).toBe(1);
  }
});

test("a persona that has acted on the prompt is reported, and its alpha is what acted", () => {
  const { worn, guard } = guarded({}, { current: () => ({ ...ONE, positions: "PROMPT" }) });
  guard.changed();
  write(guard, 64, 3);
  expect(guard.events).toMatchObject([{ alphaBeforeHundredths: 50, alphaAfterHundredths: 50 }]);
  expect([worn.alphaHundredths, guard.alphas]).toEqual([50, [{ fromToken: 0, alphaHundredths: 50 }]]);
});

test("a persona that is taken on meanwhile is guarded from its own alpha", () => {
  let current = ONE;
  const { worn, guard } = guarded({}, { current: () => current, follow: true });
  write(guard, 8, 3);
  current = TWO;
  expect(worn.refresh()).toMatchObject({ persona: TWO, gain: 1 });
  guard.changed();
  write(guard, 8, 3);
  expect(guard.alphas).toEqual([
    { fromToken: 0, alphaHundredths: 50 },
    { fromToken: 8, alphaHundredths: 30 },
    { fromToken: 16, alphaHundredths: 20 },
  ]);
  expect(worn.steering.gain).toBeCloseTo(2 / 3, 12);
});

test("what acts is what is reported: the spans agree with the gain at every token, whatever cap comes and goes", () => {
  let capHundredths = 50;
  const { worn, guard } = guarded({}, { standing: () => ({ kind: "served", capHundredths }) });
  const acted: number[] = [];
  for (const cap of [50, 50, 30, 30, 50, 50, 50]) {
    capHundredths = cap;
    for (let i = 0; i < 8; i++) {
      if (worn.refresh() !== undefined) guard.changed();
      acted.push(worn.alphaHundredths);
      guard.take({ id: fresh++, entropy: 3 });
    }
  }
  const spans = guard.alphas;
  const reported = acted.map((_, token) => spans.findLast(({ fromToken }) => fromToken <= token)?.alphaHundredths);
  expect(reported).toEqual(acted);
  expect(acted.at(-1)).toBeLessThan(acted[0] as number);
});

test("divergence lowers it too, where it is fed", () => {
  const { worn, guard } = guarded();
  write(guard, 8, 1);
  for (let i = 0; i < 8; i++) guard.compare(2);
  expect(guard.events).toMatchObject([{ cause: "DIVERGENCE", kl: 2 }]);
  expect(worn.alphaHundredths).toBe(40);
});

test("coherence is scored where there is a baseline", () => {
  const measures = { tokens: 20, entropy: 1, surprisal: 1, gap: 0, repetition: 0.1, kl: 0 };
  expect(guarded().guard.coherence(measures)).toMatchObject({ entropyRatio: 1, parts: { entropy: 1, divergence: 1 } });
  expect(guarded({ baseline: undefined }).guard.coherence(measures)).toBeUndefined();
});
