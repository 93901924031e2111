import fc from "fast-check";
import { expect, test } from "vitest";
import { FairQueue, type TenantShare } from "./fair-queue.ts";
import type { Job } from "./job.ts";

const UNLIMITED = Number.POSITIVE_INFINITY;
const SHARE: TenantShare = { weight: 1, maxRunning: UNLIMITED, maxWaiting: UNLIMITED, tokensPerMinute: UNLIMITED };
/** Tokens that a job of the tests takes at most: M of the bound. */
const MOST = 100;

/** Slots, a queue, and what each tenant was charged net of settlements. */
class Rig {
  readonly queue: FairQueue<Job>;
  readonly shares: Map<string, TenantShare>;
  readonly running: Job[] = [];
  readonly charged = new Map<string, number>();
  readonly slots: number;
  /** Of every job that runs or gave its slot up, tokens taken so far. */
  readonly taken = new Map<Job, number>();
  preemptions = 0;
  readonly #paid = new Set<Job>();
  #jobs = 0;

  constructor(slots: number, shares: ReadonlyMap<string, Partial<TenantShare>>, burst = 0) {
    this.slots = slots;
    this.shares = new Map([...shares].map(([tenant, share]) => [tenant, { ...SHARE, ...share }]));
    this.queue = new FairQueue({
      capacity: 1000,
      share: (tenant) => this.shares.get(tenant) ?? SHARE,
      burst,
      clock: () => 0,
    });
  }

  submit(tenant: string, tokens: number): Job {
    const job: Job = { id: `job${this.#jobs++}`, tenant, kind: "generate", tokens: 1, replyTokens: tokens - 1 };
    expect(this.queue.offer(job, 0)).toBeUndefined();
    return job;
  }

  waiting(tenant: string): number {
    return [...this.queue.jobs()].filter((job) => job.tenant === tenant).length;
  }

  /** Let those take slots who may. @returns who gave way, and for whom */
  preempt(): { readonly victim: Job; readonly head: Job }[] {
    const moves: { victim: Job; head: Job }[] = [];
    while (this.running.length === this.slots) {
      const victim = this.queue.claim(this.running);
      if (victim === undefined) return moves;
      const taken = this.taken.get(victim) ?? 0;
      this.running.splice(this.running.indexOf(victim), 1);
      this.queue.preempt(victim, taken);
      this.#paid.add(victim);
      const head = this.queue.head() as Job;
      moves.push({ victim, head });
      this.preemptions++;
      this.fill();
    }
    return moves;
  }

  /** A running job takes some of what it may. */
  work(which: number, share: number): void {
    const job = this.running[which % Math.max(1, this.running.length)];
    if (job === undefined) return;
    const taken = this.taken.get(job) ?? 0;
    this.taken.set(job, taken + Math.floor((costOf(job) - taken) * share));
  }

  /** Let jobs in as long as there are slots. @returns whom */
  fill(): string[] {
    const taken: string[] = [];
    while (this.running.length < this.slots) {
      const job = this.queue.head();
      if (job === undefined) break;
      expect(this.queue.head()).toBe(job);
      this.queue.take(job);
      this.running.push(job);
      if (!this.#paid.delete(job)) this.#charge(job.tenant, costOf(job));
      taken.push(job.tenant);
    }
    return taken;
  }

  /** One running job is over. @param share - of what it was charged, what it took */
  end(which: number, share: number): void {
    const [job] = this.running.splice(which % this.running.length, 1);
    if (job === undefined) return;
    const before = this.taken.get(job) ?? 0;
    const took = before + Math.round((costOf(job) - before) * share);
    this.taken.delete(job);
    this.queue.settle(job, took);
    this.#charge(job.tenant, took - costOf(job));
  }

  #charge(tenant: string, tokens: number): void {
    this.charged.set(tenant, (this.charged.get(tenant) ?? 0) + tokens);
  }
}

function costOf({ tokens, replyTokens = 0 }: Job): number {
  return tokens + replyTokens;
}

const turn = fc.record({ which: fc.nat(), share: fc.double({ min: 0, max: 1, noNaN: true }) });
const cost = fc.integer({ min: 1, max: MOST });
const weight = fc.integer({ min: 1, max: 20 });

/** How far apart two tenants' shares drift over any interval of a run in which both always wait. */
function drift(rig: Rig, [a, b]: readonly [string, string], run: () => void, turns: number): number {
  const apart = () =>
    (rig.charged.get(a) ?? 0) / (rig.shares.get(a)?.weight as number) -
    (rig.charged.get(b) ?? 0) / (rig.shares.get(b)?.weight as number);
  let [least, most] = [apart(), apart()];
  for (let i = 0; i < turns; i++) {
    run();
    least = Math.min(least, apart());
    most = Math.max(most, apart());
  }
  return most - least;
}

test("tenants that wait are served in proportion to their weights, within the stated bound over any interval", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.array(weight, { minLength: 2, maxLength: 4 }),
      fc.array(cost, { minLength: 1, maxLength: 20 }),
      fc.array(turn, { minLength: 20, maxLength: 120 }),
      fc.boolean(),
      (slots, weights, costs, turns, isExact) => {
        const tenants = weights.map((_, index) => `t${index}`);
        const rig = new Rig(slots, new Map(tenants.map((tenant, i) => [tenant, { weight: weights[i] as number }])));
        let next = 0;
        // More than slots can take at once, so that everybody waits at all times.
        const refill = () => {
          for (const tenant of tenants) {
            for (let i = rig.waiting(tenant); i <= slots + 1; i++) {
              rig.submit(tenant, costs[next++ % costs.length] as number);
            }
          }
        };
        refill();
        rig.fill();
        let at = 0;
        const step = () => {
          const { which, share } = turns[at++] as (typeof turns)[number];
          rig.end(which, isExact ? 1 : share);
          refill();
          rig.fill();
        };
        const [w, v] = weights as [number, number];
        const bound = (isExact ? 1 : slots + 1) * MOST * (1 / w + 1 / v);
        expect(drift(rig, ["t0", "t1"], step, turns.length)).toBeLessThanOrEqual(bound + 1e-6);
      },
    ),
    { numRuns: 300 },
  );
});

test("nobody starves: who waits is let in before the others have had more than the bound", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.array(weight, { minLength: 1, maxLength: 5 }),
      weight,
      cost,
      fc.array(turn, { minLength: 1, maxLength: 30 }),
      (slots, greedy, own, tokens, turns) => {
        const shares = new Map(greedy.map((w, index) => [`greedy${index}`, { weight: w }]));
        const rig = new Rig(slots, new Map<string, Partial<TenantShare>>([...shares, ["polite", { weight: own }]]));
        const flood = () => {
          for (const tenant of shares.keys()) while (rig.waiting(tenant) < slots + 2) rig.submit(tenant, MOST);
        };
        for (const { which, share } of turns) {
          flood();
          rig.fill();
          rig.end(which, share);
        }
        flood();
        rig.fill();
        const before = new Map(rig.charged);
        rig.submit("polite", tokens);
        // It comes with a clean account: everybody else may use up what is on theirs, and have one turn each.
        const bound = greedy.length * (slots + 1) + 1;
        let steps = 0;
        for (let taken: string[] = []; !taken.includes("polite"); taken = rig.fill()) {
          rig.end(0, 1);
          flood();
          expect(++steps).toBeLessThanOrEqual(bound);
        }
        for (const [index, w] of greedy.entries()) {
          const more = (rig.charged.get(`greedy${index}`) ?? 0) - (before.get(`greedy${index}`) ?? 0);
          expect(more).toBeLessThanOrEqual((slots + 1) * MOST * Math.max(1, w));
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("limits hold, order within a tenant holds, and accounts of those who left are forgotten", () => {
  const action = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("submit" as const), tenant: fc.nat(3), tokens: cost }) },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constant("end" as const), which: fc.nat(), share: fc.constant(0.5) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("cancel" as const), which: fc.nat() }) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant("limit" as const), tenant: fc.nat(3), maxRunning: fc.nat(2), weight }),
    },
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), fc.array(action, { maxLength: 80 }), (slots, actions) => {
      const rig = new Rig(slots, new Map());
      const waiting: Job[] = [];
      for (const each of actions) {
        if (each.kind === "submit") waiting.push(rig.submit(`t${each.tenant}`, each.tokens));
        else if (each.kind === "end") rig.end(each.which, each.share);
        else if (each.kind === "limit") {
          rig.shares.set(`t${each.tenant}`, { ...SHARE, maxRunning: each.maxRunning + 1, weight: each.weight });
        } else {
          const [job] = waiting.splice(each.which % Math.max(1, waiting.length), 1);
          if (job !== undefined) expect(rig.queue.remove(job.id)).toBe(job);
        }
        const beside = rig.running.slice();
        for (const tenant of rig.fill()) {
          const first = waiting.find((job) => job.tenant === tenant);
          expect(rig.running).toContain(first);
          waiting.splice(waiting.indexOf(first as Job), 1);
          const most = rig.shares.get(tenant)?.maxRunning ?? UNLIMITED;
          expect(rig.running.filter((job) => job.tenant === tenant).length).toBeLessThanOrEqual(
            Math.max(most, beside.filter((job) => job.tenant === tenant).length),
          );
        }
        expect(rig.queue.size).toBe(waiting.length);
        for (const { tenant } of rig.running.length < slots ? waiting : []) {
          const most = rig.shares.get(tenant)?.maxRunning ?? UNLIMITED;
          expect(rig.running.filter((job) => job.tenant === tenant).length).toBeGreaterThanOrEqual(most);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test("who is below its share never waits for who is beyond it, pays from its savings, and floods never preempt each other", () => {
  let preemptions = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.array(weight, { minLength: 1, maxLength: 3 }),
      fc.integer({ min: MOST, max: 4 * MOST }),
      fc.array(fc.record({ which: fc.nat(), share: turn.map(({ share }) => share), polite: fc.nat(3), tokens: cost }), {
        minLength: 1,
        maxLength: 60,
      }),
      (slots, greedy, burst, turns) => {
        const floods = greedy.map((_, index) => `greedy${index}`);
        const shares = greedy.map((w, index) => [`greedy${index}`, { weight: w }] as const);
        const rig = new Rig(slots, new Map([...shares, ["polite", { weight: 1 }]]), burst);
        // They use up what they have saved before anybody else comes.
        for (let i = 0; i < 4 * slots * (burst / MOST + 1) * floods.length; i++) {
          for (const tenant of floods) while (rig.waiting(tenant) < slots + 2) rig.submit(tenant, MOST);
          rig.fill();
          rig.end(i, 1);
        }
        for (const { which, share, polite, tokens } of turns) {
          for (const tenant of floods) while (rig.waiting(tenant) < slots + 2) rig.submit(tenant, MOST);
          rig.fill();
          rig.work(which, share);
          if (polite === 0) {
            rig.submit("polite", tokens);
            // It may have been credited since, and have more.
            const isPaid = burst - (rig.charged.get("polite") ?? 0) >= tokens && rig.waiting("polite") === 1;
            const moves = rig.preempt();
            preemptions += moves.length;
            for (const { victim, head } of moves) {
              expect(head.tenant).toBe("polite");
              expect(victim.tenant).not.toBe("polite");
            }
            // A slot is there for it as long as somebody else has one.
            const isAlone = rig.running.every(({ tenant }) => tenant === "polite");
            if (isPaid && !isAlone) expect(moves).toHaveLength(1);
          } else if (polite === 1) rig.end(which, 1);
          else expect(rig.preempt().every(({ head }) => head.tenant === "polite")).toBe(true);
        }
      },
    ),
    { numRuns: 200 },
  );
  expect(preemptions).toBeGreaterThan(100);
});
