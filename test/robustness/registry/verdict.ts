import type { StormReport } from "./storm.ts";

/** What a run says, in the order in which it is printed. */
export interface Verdict {
  readonly kills: number;
  /** Changes that clients were told are done. */
  readonly acknowledged: number;
  readonly lost: number;
  readonly auditVerified: boolean;
  readonly watchViolations: number;
  readonly linearizable: boolean;
  /** Everything that was found, and what was tried too little to find anything. */
  readonly problems: readonly string[];
  readonly seed: number;
  /** Changes that watchers were told. */
  readonly watched: number;
  readonly faults: StormReport["faults"];
  readonly untried: readonly string[];
  readonly answers: StormReport["answers"];
}

/** Acknowledged changes per kill below which a run says nothing. A machine with nothing else to do has 70 or more. */
const LEAST_ACKNOWLEDGED = 10;

/** Changes told to all watchers together, per kill. */
const LEAST_WATCHED = 2;

/** Of all acknowledged changes: each call is to be there, a fifth or less of what it usually is. */
const LEAST_SHARES: Readonly<Record<string, number>> = {
  PublishVersion: 0.08,
  CreateApproval: 0.03,
  SetAlias: 0.03,
  RollbackAlias: 0.01,
  RevokeVersion: 0.01,
  ActivatePersona: 0.005,
};

export function verdictOf(report: StormReport, seed: number): Verdict {
  const { kills, acknowledged, watched, faults, untried, answers, findings } = report;
  const { lost, audit, watch, registers, defects } = findings;
  const total = Object.values(acknowledged).reduce((sum, count) => sum + count, 0);
  return {
    kills,
    acknowledged: total,
    lost: lost.length,
    auditVerified: audit.length === 0,
    watchViolations: watch.length,
    linearizable: registers.length === 0,
    problems: [...lost, ...audit, ...watch, ...registers, ...defects, ...tooLittle(report, total)],
    seed,
    watched,
    faults,
    untried,
    answers,
  };
}

function tooLittle({ kills, acknowledged, watched }: StormReport, total: number): string[] {
  const missing = Object.entries(LEAST_SHARES).flatMap(([action, share]) =>
    (acknowledged[action] ?? 0) < Math.floor(share * total) ? [action] : [],
  );
  return [
    ...(total < kills * LEAST_ACKNOWLEDGED ? [`only ${total} changes were acknowledged: that shows little`] : []),
    ...(watched < kills * LEAST_WATCHED ? [`only ${watched} changes were watched: that shows little`] : []),
    ...(missing.length > 0 ? [`too few of ${missing.join(", ")} were acknowledged: that shows little`] : []),
  ];
}
