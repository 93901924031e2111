import type { DemoFigures, PersonaFigures } from "./story.ts";

/** What a demo that worked has shown. @returns a sentence for each thing that it has not */
export function unmet({ personas, unsteeredRowIdentical, ...figures }: DemoFigures): string[] {
  return [
    ...personas.flatMap(unmetByPersona),
    ...(unsteeredRowIdentical ? [] : ["the unsteered row changed beside steered rows"]),
    ...(Number.isFinite(figures.switchMicros) ? [] : ["no live switch was measured"]),
    ...(Number.isFinite(figures.propagationMillisP99) ? [] : ["no propagation was measured"]),
    ...(figures.auditVerified ? [] : ["the audit was not verified"]),
    ...(figures.tokensPerSecond > 0 ? [] : ["no throughput was measured"]),
  ];
}

/** Shares of the reference that a persona has to keep or reach. */
const REACH = 0.9;

/** How far a random direction may lift the tone over the unsteered share. */
const RANDOM_MARGIN = 0.1;

function unmetByPersona(p: PersonaFigures): string[] {
  const checks: [boolean, string][] = [
    [p.toneShare >= REACH * p.systemLineToneShare, `tone share ${p.toneShare} is under 0.9 × the system line's`],
    [
      p.onTopicShare >= REACH * p.baselineOnTopicShare,
      `on-topic share ${p.onTopicShare} is under 0.9 × the baseline's`,
    ],
    [p.coherence >= REACH * p.baselineCoherence, `coherence ${p.coherence} is under 0.9 × the baseline's`],
    [
      p.randomToneShareMax <= p.baselineToneShare + RANDOM_MARGIN,
      `a random direction reaches a tone share of ${p.randomToneShareMax}`,
    ],
  ];
  return checks.filter(([met]) => !met).map(([, sentence]) => `${p.name}: ${sentence}`);
}
