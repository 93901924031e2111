import { expect, test } from "vitest";
import { KvCache } from "./kv-cache.ts";

const SPEC = { layers: 2, kvHeads: 2, headDim: 3 };
const ELEMENTS = 2 * 2 * 2 * 3;

/** Every value of the cache says where it is. */
function numbered(cache: KvCache, slots: number): Float32Array[] {
  const sides = cache
    .view(0, slots)
    .flatMap(({ key, value }) => [key.data as Float32Array, value.data as Float32Array]);
  sides.forEach((side, at) => {
    side.forEach((_, i) => {
      side[i] = at * 1000 + i;
    });
  });
  return sides;
}

test("positions of a slot are copied out and into another slot, and nothing else changes", () => {
  using cache = new KvCache(SPEC, 3, 8);
  expect(cache.positionElements).toBe(ELEMENTS);
  const sides = numbered(cache, 3);
  const before = sides.map((side) => side.slice());
  const copy = new Float32Array(2 * ELEMENTS);
  cache.read(1, 4, copy);
  // Slot 1, head 0, positions 4 and 5 of the first layer's keys.
  expect([...copy.subarray(0, 6)]).toEqual([60, 61, 62, 63, 64, 65]);
  expect(copy.at(-1)).toBe(3000 + 48 + 24 + 5 * 3 + 2);
  cache.write(2, 4, copy);
  sides.forEach((side, at) => {
    const expected = (before[at] as Float32Array).slice();
    for (const head of [0, 1]) expected.set(expected.subarray(60 + 24 * head, 66 + 24 * head), 108 + 24 * head);
    expect(side).toEqual(expected);
  });
});

test("what is not whole positions, or beyond the slot, is refused", () => {
  using cache = new KvCache(SPEC, 1, 8);
  expect(() => cache.read(0, 0, new Float32Array(ELEMENTS + 1))).toThrow(RangeError);
  expect(() => cache.write(0, 7, new Float32Array(2 * ELEMENTS))).toThrow(RangeError);
  expect(() => cache.read(0, -1, new Float32Array(ELEMENTS))).toThrow(RangeError);
});
