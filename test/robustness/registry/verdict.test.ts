import { expect, test } from "vitest";
import type { StormReport } from "./storm.ts";
import { verdictOf } from "./verdict.ts";

/** A good run of two kills. */
const GOOD: StormReport = {
  kills: 2,
  faults: { "kill -9 of PostgreSQL": 2 },
  untried: [],
  acknowledged: {
    PublishVersion: 400,
    CreateApproval: 200,
    SetAlias: 200,
    RollbackAlias: 50,
    RevokeVersion: 50,
    ActivatePersona: 100,
  },
  answers: {},
  watched: 100,
  findings: { lost: [], audit: [], watch: [], registers: [], defects: [] },
};

test("a run in which much was done and nothing found has no problems", () => {
  expect(verdictOf(GOOD, 7)).toMatchObject({
    kills: 2,
    acknowledged: 1000,
    lost: 0,
    auditVerified: true,
    watchViolations: 0,
    linearizable: true,
    problems: [],
    seed: 7,
  });
});

test.each([
  ["lost", { lost: 1 }],
  ["audit", { auditVerified: false }],
  ["watch", { watchViolations: 1 }],
  ["registers", { linearizable: false }],
  ["defects", {}],
] as const)("what is found in %s is a problem", (where, shown) => {
  const findings = { ...GOOD.findings, [where]: ["something"] };
  expect(verdictOf({ ...GOOD, findings }, 7)).toMatchObject({ ...shown, problems: ["something"] });
});

test.each<[string, Partial<StormReport>, RegExp]>([
  ["few changes", { acknowledged: { PublishVersion: 5, CreateApproval: 4, SetAlias: 4 } }, /only 13 changes were ack/],
  ["few watched changes", { watched: 3 }, /only 3 changes were watched/],
  [
    "hardly an activation",
    { acknowledged: { ...GOOD.acknowledged, ActivatePersona: 1 } },
    /too few of ActivatePersona were acknowledged/,
  ],
])("a run with %s shows little, and says so", (_, scarce, problem) => {
  expect(verdictOf({ ...GOOD, ...scarce }, 7).problems).toEqual([expect.stringMatching(problem)]);
});
