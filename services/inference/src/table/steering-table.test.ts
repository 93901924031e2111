import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Lease, NonFiniteRowError, SteeringTable } from "./steering-table.ts";

const HIDDEN = 3;
const LAYERS = 4;

function table(rows: number): SteeringTable {
  return new SteeringTable({ rows, hidden: HIDDEN, layers: LAYERS });
}

/** A persona that acts on `layers`, its values derived from `mark` so that every revision's rows differ. */
function persona(mark: number, ...layers: number[]): Map<number, Float32Array> {
  return new Map(layers.map((layer) => [layer, Float32Array.of(mark, layer + 1, -mark)]));
}

function leased(steering: SteeringTable, revision: string, rows: Map<number, Float32Array>): Lease {
  const got = steering.acquire(revision, rows);
  if (got.kind !== "leased") throw new Error(`expected a lease of ${revision}, got ${got.kind}`);
  return got.lease;
}

function rowAt(steering: SteeringTable, row: number): number[] {
  return [...steering.values.subarray(row * HIDDEN, (row + 1) * HIDDEN)];
}

describe("SteeringTable", () => {
  it("gives one row per steered layer and row 0 for the others", () => {
    const steering = table(8);
    const lease = leased(steering, "a", persona(5, 1, 3));
    expect([...lease.rows]).toEqual([0, expect.any(Number), 0, expect.any(Number)]);
    expect(new Set(lease.rows).size).toBe(3);
    expect(rowAt(steering, lease.rows[1] as number)).toEqual([5, 2, -5]);
    expect(rowAt(steering, lease.rows[3] as number)).toEqual([5, 4, -5]);
    expect([...lease.norms]).toEqual([0, Math.fround(Math.sqrt(54)), 0, Math.fround(Math.sqrt(66))]);
    expect(rowAt(steering, 0)).toEqual([0, 0, 0]);
  });

  it("takes no row for a layer whose delta is all zeros", () => {
    const steering = table(3);
    const lease = leased(steering, "a", new Map([...persona(1, 0), [2, new Float32Array(HIDDEN)]]));
    expect(lease.rows[2]).toBe(0);
    expect(steering.figures().rowsInUse).toBe(1);
  });

  it("finds a released revision resident, without writing it again", () => {
    const steering = table(3);
    const first = leased(steering, "a", persona(1, 0));
    const rows = [...first.rows];
    first.release();
    const again = steering.acquire("a", new Map());
    expect(again).toMatchObject({ kind: "leased", hit: true });
    expect(again.kind === "leased" && [...again.lease.rows]).toEqual(rows);
    expect(steering.figures()).toMatchObject({ hits: 1, misses: 1, rowsHeld: 1 });
  });

  it("evicts the least recently used revision first, and only as many as needed", () => {
    const steering = table(4);
    for (const [i, name] of ["a", "b", "c"].entries()) leased(steering, name, persona(i + 1, 0)).release();
    leased(steering, "a", persona(1, 0)).release();
    leased(steering, "d", persona(9, 0));
    expect(["a", "b", "c", "d"].filter((name) => steering.has(name))).toEqual(["a", "c", "d"]);
    expect(steering.figures()).toMatchObject({ evictions: 1, rowsInUse: 3, rowsHeld: 1, heldPersonas: 1 });
  });

  it("is full when running requests hold the rows, and evicts nobody for a persona that would not fit anyway", () => {
    const steering = table(4);
    const held = leased(steering, "a", persona(1, 0, 1));
    leased(steering, "b", persona(2, 0)).release();
    expect(steering.acquire("c", persona(3, 0, 1))).toEqual({ kind: "full", needed: 2, available: 1 });
    expect(steering.has("b")).toBe(true);
    held.release();
    expect(steering.acquire("c", persona(3, 0, 1)).kind).toBe("leased");
  });

  it("says that a persona can never fit, instead of letting it wait for ever", () => {
    expect(table(3).acquire("a", persona(1, 0, 1, 2))).toEqual({ kind: "tooLarge", needed: 3, capacity: 2 });
  });

  it("serves an all-zero persona from a table without a single free row", () => {
    const steering = table(1);
    expect(steering.acquire("none", new Map())).toMatchObject({ kind: "leased", hit: false });
    expect(steering.acquire("some", persona(1, 0)).kind).toBe("tooLarge");
  });

  it("does not remember personas that take no row", () => {
    const steering = table(2);
    for (let i = 0; i < 100; i++) leased(steering, `none-${i}`, new Map()).release();
    expect(steering.figures()).toMatchObject({ residentPersonas: 0, heldPersonas: 0 });
  });

  it("counts each holder: the rows are held until the last of them releases, and a second release changes nothing", () => {
    const steering = table(2);
    const one = leased(steering, "a", persona(1, 0));
    const two = leased(steering, "a", persona(1, 0));
    one.release();
    one.release();
    expect(steering.acquire("b", persona(2, 0)).kind).toBe("full");
    two[Symbol.dispose]();
    expect(steering.acquire("b", persona(2, 0)).kind).toBe("leased");
  });

  it("gives each holder a copy, so that one that writes into its lease harms nobody else", () => {
    const steering = table(3);
    const lease = leased(steering, "a", persona(1, 0));
    lease.rows.fill(2);
    lease.norms.fill(9);
    const other = leased(steering, "a", persona(1, 0));
    expect([...other.rows]).toEqual([1, 0, 0, 0]);
    expect([...other.norms]).toEqual([Math.fround(Math.sqrt(3)), 0, 0, 0]);
  });

  it("forgets a dropped revision at once, and frees its rows with the last lease", () => {
    const steering = table(3);
    const held = leased(steering, "a", persona(1, 0));
    const rows = [...held.rows];
    expect(steering.drop("a")).toEqual({ kind: "held", leases: 1 });
    expect(steering.has("a")).toBe(false);
    const rewritten = leased(steering, "a", persona(7, 0));
    expect([...rewritten.rows]).not.toEqual(rows);
    expect(rowAt(steering, rows[0] as number)).toEqual([1, 1, -1]);
    held.release();
    expect(steering.figures()).toMatchObject({ rowsInUse: 1, residentPersonas: 1, heldPersonas: 1 });
    rewritten.release();
    expect(steering.drop("a")).toEqual({ kind: "freed" });
    expect(steering.drop("a")).toEqual({ kind: "absent" });
    expect(steering.figures()).toMatchObject({ rowsInUse: 0, rowsHeld: 0 });
  });

  it("refuses rows that are not finite, too wide or at no layer, and stays as it was", () => {
    const steering = table(4);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const bad = new Map([...persona(1, 0), [1, Float32Array.of(1, value, 1)]]);
      expect(() => steering.acquire("bad", bad)).toThrow(NonFiniteRowError);
    }
    expect(() => steering.acquire("bad", new Map([[0, new Float32Array(HIDDEN).fill(3e38)]]))).toThrow(/layer 0/);
    expect(() => steering.acquire("bad", new Map([[0, new Float32Array(HIDDEN + 1)]]))).toThrow(/width is 3/);
    expect(() => steering.acquire("bad", new Map([[LAYERS, new Float32Array(HIDDEN)]]))).toThrow(/layers 0 to 3/);
    expect(() => steering.acquire("bad", new Map([[-1, new Float32Array(HIDDEN)]]))).toThrow(/layers 0 to 3/);
    expect(steering.figures()).toMatchObject({ rowsInUse: 0, residentPersonas: 0, misses: 0 });
    expect(steering.values.every((x) => x === 0)).toBe(true);
  });

  it("refuses a shape that is no shape", () => {
    expect(() => new SteeringTable({ rows: 0, hidden: 3, layers: 1 })).toThrow(/rows/);
    expect(() => new SteeringTable({ rows: 2, hidden: 1.5, layers: 1 })).toThrow(/hidden/);
  });
});

describe("SteeringTable under random use", () => {
  type Action =
    | { kind: "acquire"; revision: number }
    | { kind: "release"; which: number; twice: boolean }
    | { kind: "drop"; revision: number };

  const action: fc.Arbitrary<Action> = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("acquire" as const), revision: fc.nat(9) }) },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("release" as const), which: fc.nat(), twice: fc.boolean() }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("drop" as const), revision: fc.nat(9) }) },
  );

  /** Revision r steers layers 0 … r mod 5 − 1; r = 0 and 5 steer none. */
  function composed(revision: number): Map<number, Float32Array> {
    return persona(revision + 1, ...Array.from({ length: revision % (LAYERS + 1) }, (_, layer) => layer));
  }

  it("never shares, overwrites or loses a row that is held, and never touches row 0", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 14 }), fc.array(action, { maxLength: 200 }), (rows, actions) => {
        const steering = table(rows);
        const held: { lease: Lease; revision: number; generation: number }[] = [];
        const generations = new Map<number, number>();
        const generation = (revision: number) => generations.get(revision) ?? 0;

        for (const next of actions) {
          if (next.kind === "acquire") {
            const wasResident = steering.has(String(next.revision));
            const heldRows = new Set(held.flatMap((h) => [...h.lease.rows].filter((row) => row > 0))).size;
            const needed = composed(next.revision).size;
            const got = steering.acquire(String(next.revision), composed(next.revision));
            if (got.kind === "leased") {
              expect(got.hit).toBe(wasResident);
              held.push({ lease: got.lease, revision: next.revision, generation: generation(next.revision) });
            } else if (got.kind === "full") {
              // Full is said only when it is true: evicting everybody idle would not have been enough.
              expect(rows - 1 - heldRows).toBeLessThan(needed);
            } else {
              expect(needed).toBeGreaterThan(rows - 1);
            }
          } else if (next.kind === "release") {
            const [gone] = held.length === 0 ? [] : held.splice(next.which % held.length, 1);
            gone?.lease.release();
            if (next.twice) gone?.lease.release();
          } else {
            const leases = held.filter(
              (h) => h.revision === next.revision && h.generation === generation(next.revision),
            );
            const dropped = steering.drop(String(next.revision));
            if (leases.length > 0) expect(dropped).toEqual({ kind: "held", leases: leases.length });
            generations.set(next.revision, generation(next.revision) + 1);
          }

          const owner = new Map<number, string>();
          for (const { lease, revision, generation: age } of held) {
            const expected = composed(revision);
            for (let layer = 0; layer < LAYERS; layer++) {
              const row = lease.rows[layer] as number;
              expect(row > 0).toBe(expected.has(layer));
              if (row === 0) continue;
              expect(rowAt(steering, row)).toEqual([...(expected.get(layer) as Float32Array)]);
              const mine = `${revision}@${age}/${layer}`;
              expect(owner.get(row) ?? mine).toBe(mine);
              owner.set(row, mine);
            }
          }
          expect(rowAt(steering, 0)).toEqual([0, 0, 0]);
          const figures = steering.figures();
          expect(figures.rowsHeld).toBe(owner.size);
          expect(figures.rowsInUse).toBeLessThanOrEqual(figures.capacity);
        }

        for (const { lease } of held) lease.release();
        expect(steering.figures()).toMatchObject({ rowsHeld: 0, heldPersonas: 0 });
        for (let revision = 0; revision < 10; revision++) steering.drop(String(revision));
        expect(steering.figures()).toMatchObject({ rowsInUse: 0, residentPersonas: 0 });
      }),
      { numRuns: 300 },
    );
  });
});
