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

/** Acknowledged changes per kill below which a run says nothing; a slow machine has twice as many. */
const LEAST_ACKNOWLEDGED = 20;

/** Changes told to all watchers together, per kill. */
const LEAST_WATCHED = 4;

/** Calls without which a run says nothing, each acknowledged at least once. */
const NEEDED = ["PublishVersion", "CreateApproval", "SetAlias", "ActivatePersona", "RevokeVersion"];

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
  const missing = NEEDED.filter((action) => (acknowledged[action] ?? 0) === 0);
  return [
    ...(total < kills * LEAST_ACKNOWLEDGED ? [`only ${total} changes were acknowledged: that shows little`] : []),
    ...(watched < kills * LEAST_WATCHED ? [`only ${watched} changes were watched: that shows little`] : []),
    ...(missing.length > 0 ? [`no ${missing.join(", ")} was acknowledged: that shows little`] : []),
  ];
}
