import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { WatchResponseSchema } from "@persona-mesh/protocol/registry";
import { describe, expect, test } from "vitest";
import { revocation, tenantState, versionAlong } from "../testing/governed-personas.ts";
import { bookmark, changeSet, snapshot } from "../testing/scripted-registry.ts";
import { WatchBroken, WatchSequence } from "./watch-sequence.ts";

type Message = MessageInitShape<typeof WatchResponseSchema>;

/** What a stream amounts to, message by message. */
function taken(resumed: bigint | undefined, ...messages: Message[]): string[] {
  const sequence = new WatchSequence(resumed);
  return messages.map((message) => {
    const it = sequence.take(create(WatchResponseSchema, message));
    if (it.kind === "part") return "part";
    if (it.kind === "bookmark") return `bookmark ${it.revision}`;
    return `${it.update.kind} ${it.update.revision} (${it.update.changes.length})`;
  });
}

const change = tenantState();

test("parts become one snapshot, changes follow it without a gap, bookmarks move on", () => {
  expect(
    taken(
      undefined,
      snapshot(5n, [change], false),
      snapshot(5n, [change, change], false),
      snapshot(5n, []),
      changeSet(5n, 9n, [change]),
      bookmark(12n),
      bookmark(12n),
      changeSet(12n, 13n, []),
      snapshot(3n, []),
      changeSet(3n, 4n, []),
    ),
  ).toEqual([
    "part",
    "part",
    "snapshot 5 (3)",
    "changes 9 (1)",
    "bookmark 12",
    "bookmark 12",
    "changes 13 (0)",
    "snapshot 3 (0)",
    "changes 4 (0)",
  ]);
});

test("a resumed stream goes on from its revision", () => {
  expect(taken(7n, changeSet(7n, 8n, [change]))).toEqual(["changes 8 (1)"]);
  expect(taken(7n, snapshot(20n, []))).toEqual(["snapshot 20 (0)"]);
  expect(() => taken(7n, changeSet(6n, 8n, [change]))).toThrow(WatchBroken);
});

describe("a stream that breaks its rules is refused", () => {
  test.each<[string, Message[]]>([
    ["changes before any snapshot", [changeSet(0n, 1n, [])]],
    ["a bookmark before any snapshot", [bookmark(1n)]],
    ["a gap", [snapshot(5n, []), changeSet(6n, 7n, [])]],
    ["a revision twice", [snapshot(5n, []), changeSet(5n, 6n, []), changeSet(5n, 6n, [])]],
    ["a revision that does not rise", [snapshot(5n, []), changeSet(5n, 5n, [])]],
    ["a bookmark that goes back", [snapshot(5n, []), bookmark(4n)]],
    ["changes within a snapshot", [snapshot(5n, [], false), changeSet(5n, 6n, [])]],
    ["parts of two snapshots", [snapshot(5n, [], false), snapshot(6n, [])]],
    ["no event", [snapshot(5n, []), {}]],
    ["a tenant that is none", [snapshot(5n, [tenantState({}, "../up")])]],
    ["a revocation of no sha256", [snapshot(5n, [revocation({ ...versionAlong(0), digest: "x\ny" })])]],
  ])("%s", (_, messages) => {
    expect(() => taken(undefined, ...messages)).toThrow(WatchBroken);
  });

  test("what broke it was not taken over", () => {
    const sequence = new WatchSequence(5n);
    expect(() => sequence.take(create(WatchResponseSchema, changeSet(6n, 7n, [])))).toThrow(WatchBroken);
    expect(sequence.take(create(WatchResponseSchema, changeSet(5n, 6n, []))).kind).toBe("update");
  });
});
