import fc from "fast-check";
import { expect, test } from "vitest";
import { PrefixStore } from "./prefix-store.ts";

const add = (store: PrefixStore, tenant: string, key: string, chain: readonly string[] = []) =>
  store.add(tenant, key, chain, (values) => values.fill(key.length));

test("the least recently used of a tenant makes room, and gives its memory", () => {
  const store = new PrefixStore(2, 1);
  add(store, "acme", "a");
  const memory = store.get("acme", "a");
  add(store, "acme", "bb");
  store.touch("acme", ["bb"]);
  add(store, "acme", "ccc");
  expect(["a", "bb", "ccc"].map((key) => store.has("acme", key))).toEqual([false, true, true]);
  expect(store.get("acme", "ccc")).toBe(memory);
  expect([...(memory ?? [])]).toEqual([3]);
  expect(store.evictions).toBe(1);
});

test("a flood of one tenant takes nothing from who has less, and who comes takes from who has most", () => {
  const store = new PrefixStore(4, 1);
  add(store, "acme", "a");
  for (let i = 0; i < 9; i++) add(store, "greedy", `g${i}`);
  expect(store.has("acme", "a")).toBe(true);
  add(store, "globex", "b");
  add(store, "globex", "bb");
  expect(["a"].map((key) => store.has("acme", key))).toEqual([true]);
  expect(["g5", "g6", "g7", "g8"].map((key) => store.has("greedy", key))).toEqual([false, false, false, true]);
  expect(store.size).toBe(4);
});

test("of one tenant another never finds anything", () => {
  const store = new PrefixStore(2, 1);
  add(store, "acme", "a");
  expect(store.has("globex", "a")).toBe(false);
  add(store, "globex", "a");
  expect(store.get("globex", "a")).not.toBe(store.get("acme", "a"));
});

test("rather than what comes before it, nothing makes room for a chunk", () => {
  const store = new PrefixStore(1, 1);
  add(store, "acme", "a");
  add(store, "acme", "ab", ["a"]);
  expect([store.has("acme", "a"), store.has("acme", "ab"), store.size]).toEqual([true, false, 1]);
  // Nor from a tenant that has no more.
  const shared = new PrefixStore(2, 1);
  add(shared, "acme", "a");
  add(shared, "globex", "b");
  add(shared, "acme", "ab", ["a"]);
  expect([shared.has("acme", "a"), shared.has("globex", "b")]).toEqual([true, true]);
});

test("whatever comes, it holds no more than it may, and no tenant loses what is within its even part", () => {
  const action = fc.record({ tenant: fc.constantFrom("a", "b", "c"), key: fc.constantFrom(..."stuvwxyz") });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 9 }), fc.array(action, { maxLength: 80 }), (capacity, actions) => {
      const store = new PrefixStore(capacity, 1);
      const held = (tenant: string) => [..."stuvwxyz"].filter((key) => store.has(tenant, key)).length;
      for (const { tenant, key } of actions) {
        const before = new Map(["a", "b", "c"].map((each) => [each, held(each)]));
        if (store.has(tenant, key)) store.touch(tenant, [key]);
        else add(store, tenant, key);
        expect(store.size).toBeLessThanOrEqual(capacity);
        expect(["a", "b", "c"].reduce((sum, each) => sum + held(each), 0)).toBe(store.size);
        for (const [each, count] of before) {
          if (each !== tenant && count <= Math.floor(capacity / 3)) expect(held(each)).toBe(count);
        }
      }
    }),
    { numRuns: 200 },
  );
});
