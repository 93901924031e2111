import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Caller } from "./caller.ts";
import { VerifiedTokens } from "./verified-tokens.ts";

const CALLER: Caller = { subject: "ann", tenant: "acme", roles: new Set(["viewer"]) };
const LATER = 9_000_000;

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
});

afterEach(() => {
  vi.useRealTimers();
});

/** Keys by their ids, in force as the test says. */
function remembered(keys: Map<string, object>) {
  const tokens = new VerifiedTokens(async ({ kid }) => {
    const key = keys.get(kid ?? "");
    if (key === undefined) throw new Error("no such key");
    return key as never;
  });
  const add = (token: string, kid: string, expires = LATER) =>
    tokens.add(token, { caller: CALLER, key: keys.get(kid), header: { kid, alg: "EdDSA" }, expires });
  return { tokens, add };
}

test("a token that was verified is known, and no other one", async () => {
  const { tokens, add } = remembered(new Map([["k", {}]]));
  add("a.b.c", "k");
  expect(await tokens.get("a.b.c")).toBe(CALLER);
  expect(await tokens.get("a.b.c")).toBe(CALLER);
  expect(await tokens.get("a.b.d")).toBeUndefined();
});

test("until it expires", async () => {
  const { tokens, add } = remembered(new Map([["k", {}]]));
  add("a.b.c", "k", 1_000_300);
  vi.advanceTimersByTime(299);
  expect(await tokens.get("a.b.c")).toBe(CALLER);
  vi.advanceTimersByTime(1);
  expect(await tokens.get("a.b.c")).toBeUndefined();
});

test("not with a key that is out of force, nor with another of the same name", async () => {
  const keys = new Map([["k", {}]]);
  const { tokens, add } = remembered(keys);
  add("a.b.c", "k");
  keys.set("k", {});
  expect(await tokens.get("a.b.c")).toBeUndefined();
  add("a.b.c", "k");
  keys.delete("k");
  expect(await tokens.get("a.b.c")).toBeUndefined();
});

test("of very many those that are used least are forgotten", async () => {
  const { tokens, add } = remembered(new Map([["k", {}]]));
  for (let i = 0; i < 4096; i++) add(`token ${i}`, "k");
  await tokens.get("token 0");
  add("token 4096", "k");
  expect(await tokens.get("token 1")).toBeUndefined();
  expect(await tokens.get("token 0")).toBe(CALLER);
  expect(await tokens.get("token 4096")).toBe(CALLER);
});

test("no more than that are kept, also where others come while the keys are asked", async () => {
  const { tokens, add } = remembered(new Map([["k", {}]]));
  for (let i = 0; i < 4096; i++) add(`token ${i}`, "k");
  const used = tokens.get("token 0");
  add("another", "k");
  expect(await used).toBe(CALLER);
  expect(await tokens.get("token 1")).toBeUndefined();
  expect(await tokens.get("another")).toBe(CALLER);
});
