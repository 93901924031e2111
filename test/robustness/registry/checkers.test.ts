import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkRegisters } from "./check-register.ts";
import { checkContents, checkRequests } from "./check-requests.ts";
import { checkWatch } from "./check-watch.ts";
import type { Operation, Outcome, WatchedEvent } from "./history.ts";

const ok: Outcome = { kind: "ok" };
const unknown: Outcome = { kind: "unknown", reason: "UNAVAILABLE" };
const write = (
  value: string,
  order: bigint | undefined,
  at: readonly [number, number],
  outcome: Outcome = ok,
  expected: bigint = (order ?? 1n) - 1n,
): Operation => ({
  kind: "write",
  key: "production",
  value,
  expected,
  order,
  invoked: at[0],
  completed: at[1],
  outcome,
});
const read = (value: string | undefined, order: bigint, at: readonly [number, number]): Operation => ({
  kind: "read",
  key: "production",
  value,
  order,
  invoked: at[0],
  completed: at[1],
});

describe("a register", () => {
  test.each<[string, Operation[]]>([
    ["in order", [read(undefined, 0n, [0, 1]), write("a", 1n, [2, 3]), read("a", 1n, [4, 5]), write("b", 2n, [6, 7])]],
    ["overlapping", [write("a", 2n, [0, 10]), write("b", 1n, [0, 10]), read("b", 1n, [1, 9]), read("a", 2n, [5, 20])]],
    ["a write that nobody saw answered took effect", [write("a", undefined, [0, 5], unknown), read("a", 1n, [6, 7])]],
    ["or did not", [write("a", undefined, [0, 5], unknown), read(undefined, 0n, [6, 7])]],
  ])("%s is one", (_, history) => {
    expect(checkRegisters(history)).toEqual([]);
  });

  test.each<[string, Operation[], RegExp]>([
    ["a lost write", [write("a", 1n, [0, 1]), read(undefined, 0n, [2, 3])], /began after number 1/],
    ["a stale read", [write("a", 1n, [0, 1]), write("b", 2n, [2, 3]), read("a", 1n, [4, 5])], /began after number 2/],
    ["reads that go back", [write("a", 1n, [0, 9]), read("a", 1n, [1, 2]), read(undefined, 0n, [3, 4])], /began after/],
    ["a write that goes back", [write("a", 5n, [0, 1]), write("b", 4n, [2, 3])], /write of number 4/],
    ["a read of what nobody wrote", [read("x", 1n, [0, 1])], /nobody wrote/],
    [
      "a read of a refused write",
      [write("a", undefined, [0, 1], { kind: "refused", reason: "x" }), read("a", 1n, [2, 3])],
      /nobody wrote/,
    ],
    ["a read from the future", [read("a", 1n, [0, 1]), write("a", 1n, [2, 3])], /before it was written/],
    ["another value", [write("a", 1n, [0, 1]), read("b", 1n, [2, 3])], /written as a and read as b/],
    [
      "a write over another that it did not know",
      [write("a", 1n, [0, 9]), write("b", 2n, [0, 9], ok, 0n)],
      /expected number 0 got the number 2/,
    ],
    ["two writes in one place", [write("a", 1n, [0, 9]), write("b", 1n, [0, 9])], /two writes have the number 1/],
    [
      "two values of one state",
      [
        write("a", undefined, [0, 9], unknown),
        write("b", undefined, [0, 9], unknown),
        read("a", 1n, [0, 9]),
        read("b", 1n, [0, 9]),
      ],
      /two values/,
    ],
  ])("%s is found", (_, history, what) => {
    expect(
      checkRegisters(history)
        .map((it) => it.what)
        .join("\n"),
    ).toMatch(what);
  });

  test("whatever a real register does passes, and turning any read back is found", () => {
    // One thread of time; each operation takes effect in the middle of its interval.
    const steps = fc.array(fc.record({ isWrite: fc.boolean(), length: fc.integer({ min: 1, max: 40 }) }), {
      minLength: 2,
      maxLength: 40,
    });
    fc.assert(
      fc.property(steps, (plan) => {
        let order = 0n;
        const history = plan.map(({ isWrite, length }, index): Operation => {
          const at = [index * 10 - length / 2, index * 10 + length / 2] as const;
          if (isWrite) order++;
          return isWrite ? write(`v${order}`, order, at) : read(order === 0n ? undefined : `v${order}`, order, at);
        });
        expect(checkRegisters(history)).toEqual([]);
        // A read long after everything, of any state but the last, is stale.
        if (order > 1n) {
          const stale = read("v1", 1n, [10_000, 10_001]);
          expect(checkRegisters([...history, stale])).not.toEqual([]);
        }
      }),
    );
  });
});

describe("a watcher", () => {
  const changes = (revision: bigint, previous: bigint): WatchedEvent => ({ kind: "changes", revision, previous });
  const snapshot = (revision: bigint): WatchedEvent => ({ kind: "snapshot", revision });
  const bookmark = (revision: bigint): WatchedEvent => ({ kind: "bookmark", revision });
  const check = (events: WatchedEvent[], committed: bigint[]) => checkWatch({ watcher: "w", events }, committed);

  test("that was told everything once and in order is fine", () => {
    expect(check([snapshot(2n), changes(3n, 2n), bookmark(5n), changes(6n, 5n)], [1n, 2n, 3n, 6n])).toEqual([]);
    expect(check([snapshot(2n), changes(5n, 2n), bookmark(9n), bookmark(9n), changes(10n, 9n)], [5n, 10n])).toEqual([]);
  });

  test.each<[string, WatchedEvent[], bigint[], RegExp]>([
    ["a revision told twice", [snapshot(0n), changes(1n, 0n), changes(1n, 0n)], [1n], /revision 1 after 1/],
    ["revisions out of order", [snapshot(0n), changes(2n, 0n), changes(1n, 0n)], [1n, 2n], /revision 1 after 2/],
    ["a gap that it was told of", [snapshot(0n), changes(3n, 2n)], [3n], /a gap between 0 and 2/],
    ["a revision left out", [snapshot(0n), changes(2n, 0n)], [1n, 2n], /revision 1 was never told/],
    ["a revision passed by a bookmark", [snapshot(0n), bookmark(1n)], [1n], /revision 1 was never told/],
    ["a change that never was", [snapshot(0n), changes(1n, 0n)], [], /never committed/],
    ["a snapshot that goes back", [snapshot(5n), snapshot(3n)], [], /a snapshot of 3 after 5/],
    ["a snapshot instead of changes", [snapshot(5n), snapshot(7n)], [6n], /a snapshot of 7 after 5/],
    ["a bookmark that goes back", [snapshot(5n), bookmark(3n)], [], /a bookmark of 3 after 5/],
    ["changes before any snapshot", [changes(1n, 0n)], [1n], /before any snapshot/],
  ])("%s is found", (_, events, committed, what) => {
    expect(check(events, committed).join("\n")).toMatch(what);
  });
});

describe("requests", () => {
  const refused: Outcome = { kind: "refused", reason: "NOT_APPROVED" };
  const check = (outcome: Outcome, entries: readonly string[], rows: readonly string[] = ["production@1"]) => {
    const request = { tenant: "acme", action: "SetAlias", requestId: "r1", what: "production@1", outcome };
    return checkRequests([request], {
      changes: new Map([["r1", entries]]),
      reads: new Map(),
      rows: new Map([["SetAlias", new Set(rows)]]),
    });
  };

  test.each<[string, Outcome, string[]]>([
    ["acknowledged and there", ok, ["SetAlias"]],
    ["acknowledged, with what followed from it", ok, ["SetAlias", "FollowAlias", "ReleaseRevision"]],
    ["acknowledged, and so already", ok, ["SetAliasAgain"]],
    ["refused and not there", refused, []],
    ["unknown and there", unknown, ["SetAlias"]],
    ["unknown and not there", unknown, []],
  ])("%s are as they should be", (_, outcome, entries) => {
    expect(check(outcome, entries)).toEqual({ lost: [], unasked: [] });
  });

  test.each<[string, Outcome, string[], "lost" | "unasked", RegExp]>([
    ["acknowledged and not there", ok, [], "lost", /its entry in the audit is not there/],
    ["acknowledged, and only what followed is there", ok, ["FollowAlias"], "lost", /its entry in the audit/],
    ["done twice", ok, ["SetAlias", "SetAlias"], "unasked", /done 2 times/],
    ["done twice, the second time as what was so already", ok, ["SetAlias", "SetAliasAgain"], "unasked", /2 times/],
    ["unknown and done twice", unknown, ["SetAlias", "SetAlias"], "unasked", /done 2 times/],
    ["refused and done", refused, ["SetAlias"], "unasked", /refused as NOT_APPROVED and is in the audit/],
  ])("%s are found", (_, outcome, entries, where, what) => {
    expect(check(outcome, entries)[where].join("\n")).toMatch(what);
  });

  test("one whose entry is there without what it made is lost, and counts once", () => {
    expect(check(ok, ["SetAlias"], ["production@2"]).lost).toEqual([
      expect.stringMatching(/what it made is not there/),
    ]);
    expect(check(ok, [], []).lost).toEqual([expect.stringMatching(/its entry in the audit and what it made/)]);
    expect(check(unknown, [], []).lost).toEqual([]);
  });

  test("reads of bytes that are others, or that nobody wrote down, are found", () => {
    const read = (version: string, isIntact = true) => ({ tenant: "acme", version, isIntact });
    const reads = new Map([["v1", 2]]);
    const check = (...contents: ReturnType<typeof read>[]) =>
      checkContents(contents, { changes: new Map(), reads, rows: new Map() });
    expect(check(read("v1"), read("v1"))).toEqual({ lost: [], unasked: [] });
    expect(check(read("v1", false)).lost.join()).toMatch(/bytes of v1/);
    expect(check(read("v1"), read("v1"), read("v1")).unasked.join()).toMatch(/read 3 times, and the audit has 2/);
    expect(check(read("v2")).unasked.join()).toMatch(/v2 was read 1 times, and the audit has 0/);
  });
});
