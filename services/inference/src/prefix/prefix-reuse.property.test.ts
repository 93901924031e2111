import { createHash } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { EngineJob } from "../engine/engine-job.ts";
import { type RowSteering, UNSTEERED } from "../engine/row-steering.ts";
import type { PrefillStep } from "../scheduler/index.ts";
import type { Lease } from "../table/index.ts";
import { PrefixReuse } from "./prefix-reuse.ts";

const CHUNK = 4;
const SLOTS = 3;
const CONTEXT = 40;

/** What a job wears, as far as keys and values depend on it. */
interface Wear {
  readonly rows: string;
  readonly gain: number;
  readonly renorm: boolean;
  readonly positions: RowSteering["positions"];
}

/** A job that reads its prompt chunk by chunk, and what it wears at each. */
interface Script {
  readonly slot: number;
  readonly tenant: string;
  /** Of a sequence that all share, how much; then its own. */
  readonly shared: number;
  readonly own: readonly number[];
  /** By chunk, cyclically: it may change in the middle of a prompt. */
  readonly wears: readonly (Wear | undefined)[];
  readonly reuses: boolean;
}

const wear: fc.Arbitrary<Wear | undefined> = fc.oneof(
  { weight: 2, arbitrary: fc.constant(undefined) },
  {
    weight: 3,
    arbitrary: fc.record({
      rows: fc.constantFrom("x", "y"),
      gain: fc.constantFrom(0, 0.5, 1),
      renorm: fc.boolean(),
      positions: fc.constantFrom("ALL" as const, "PROMPT" as const, "GENERATED" as const),
    }),
  },
);

const script: fc.Arbitrary<Script> = fc.record({
  slot: fc.nat(SLOTS - 1),
  tenant: fc.constantFrom("acme", "globex"),
  shared: fc.nat(30),
  own: fc.array(fc.nat(2), { minLength: 1, maxLength: 8 }),
  wears: fc.array(wear, { minLength: 1, maxLength: 3 }),
  reuses: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
});

/** What acts on a prompt, told in the test's own words. */
function acting(worn: Wear | undefined): string {
  if (worn === undefined || worn.gain === 0 || worn.positions === "GENERATED") return "nothing";
  return `${worn.rows} by ${worn.gain}${worn.renorm ? " renormed" : ""}`;
}

function steeringOf(worn: Wear | undefined): RowSteering {
  if (worn === undefined) return UNSTEERED;
  const { rows, gain, renorm, positions } = worn;
  return { lease: { revision: rows } as Lease, gain, renorm, positions };
}

/** One number that stands for a position's keys and values: of the tenant's tokens so far and of all that acted on them. */
function computed(history: string): number {
  return createHash("sha256").update(history).digest().readUInt32LE(0) >>> 8;
}

test("whatever is copied is what would have been computed, and within the memory", () => {
  let copied = 0;
  fc.assert(
    fc.property(
      fc.array(script, { minLength: 2, maxLength: 25 }),
      fc.integer({ min: 1, max: 12 }),
      (scripts, chunks) => {
        const slots = Array.from({ length: SLOTS }, () => new Float32Array(CONTEXT));
        const prefixes = new PrefixReuse(
          {
            cachedElements: 1,
            readCache: (slot, start, into) =>
              into.set((slots[slot] as Float32Array).subarray(start, start + into.length)),
            writeCache: (slot, start, from) => slots[slot]?.set(from, start),
          },
          { chunkTokens: CHUNK, bytes: chunks * CHUNK * 4 + 3, mostCopiedBytes: 2 * CHUNK * 4 },
        );
        let found = 0;
        for (const { slot, tenant, shared, own, wears, reuses } of scripts) {
          const prompt = Int32Array.from([...Array.from({ length: shared }, (_, i) => i % 3), ...own]);
          const worn = { steering: UNSTEERED };
          const job = {
            ...{ kind: "generate", tenant, prompt, tokens: prompt.length, worn, reusePrefix: reuses },
            prefixFound: ({ cachedTokens }: { cachedTokens: number }) => expect(cachedTokens % CHUNK).toBe(0),
          } as unknown as EngineJob;
          const expected: number[] = [];
          let history = tenant;
          const cache = slots[slot] as Float32Array;
          cache.fill(-1);
          for (let start = 0; start < prompt.length; ) {
            const now = wears[(start / CHUNK) % wears.length];
            worn.steering = steeringOf(now);
            const end = Math.min(prompt.length, start + CHUNK);
            const step: PrefillStep<EngineJob> = {
              ...{ kind: "prefill", slot, job, start, end, phase: "prompt" },
              ...{ isLast: end === prompt.length, repeats: false },
            };
            const filled = prefixes.fill(step);
            expect((filled - start) % CHUNK).toBe(0);
            expect(filled).toBeLessThan(prompt.length);
            expect(filled - start).toBeLessThanOrEqual(2 * CHUNK);
            if (!reuses) expect(filled).toBe(start);
            const until = Math.max(end, filled);
            for (let position = start; position < until; position++) {
              // All chunks that are copied at once are read under what is worn now.
              history += ` ${prompt[position]} under ${acting(now)}`;
              expected.push(computed(history));
              if (filled === start) cache[position] = expected.at(-1) as number;
            }
            expect([...cache.subarray(0, until)]).toEqual(expected);
            if (filled === start) prefixes.keep(step);
            found += filled - start;
            start = until;
          }
          const { bytes, capacityBytes, tokensSaved } = prefixes.figures();
          expect(capacityBytes).toBe(chunks * CHUNK * 4);
          expect(bytes).toBeLessThanOrEqual(capacityBytes);
          expect(tokensSaved).toBe(found);
        }
        copied += found;
      },
    ),
    { numRuns: 300 },
  );
  expect(copied).toBeGreaterThan(1000);
});
