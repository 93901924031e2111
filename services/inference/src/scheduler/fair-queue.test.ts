import { describe, expect, test } from "vitest";
import { FairQueue, type TenantShare } from "./fair-queue.ts";
import type { Job } from "./job.ts";

const UNLIMITED: TenantShare = {
  weight: 100,
  maxRunning: Number.POSITIVE_INFINITY,
  maxWaiting: Number.POSITIVE_INFINITY,
  tokensPerMinute: Number.POSITIVE_INFINITY,
};

function job(id: string, tokens = 10, replyTokens = 0): Job {
  return { id, tenant: id.slice(0, 1), kind: "generate", tokens, replyTokens };
}

interface Stage {
  readonly queue: FairQueue<Job>;
  readonly shares: Map<string, Partial<TenantShare>>;
  now: number;
}

function open(capacity: number, shares: Readonly<Record<string, Partial<TenantShare>>> = {}, burst = 0): Stage {
  const stage: Stage = {
    now: 1000,
    shares: new Map(Object.entries(shares)),
    queue: new FairQueue<Job>({
      capacity,
      share: (tenant) => ({ ...UNLIMITED, ...stage.shares.get(tenant) }),
      burst,
      clock: () => stage.now,
    }),
  };
  return stage;
}

/** Offer jobs with no slot free; what became of each. */
function offer({ queue }: Stage, ...ids: readonly string[]): string[] {
  return ids.map((id) => {
    const refusal = queue.offer(job(id), 0);
    if (refusal === undefined) return "waits";
    return refusal.reason === "QUEUE_FULL" ? `full of ${refusal.whose}` : "limited";
  });
}

/** Let `count` jobs in, one after another, each over at once and as long as it may be. */
function order({ queue }: Stage, count: number): string {
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    const head = queue.head();
    if (head === undefined) break;
    queue.take(head);
    queue.settle(head, head.tokens + (head.replyTokens ?? 0));
    ids.push(head.id);
  }
  return ids.join(" ");
}

describe("the order", () => {
  test("a tenant alone is served first come first served", () => {
    const stage = open(9);
    offer(stage, "a1", "a2", "a3");
    expect(order(stage, 9)).toBe("a1 a2 a3");
  });

  test("who comes while others wait has its turn at the next slot but one, whatever they have queued", () => {
    const stage = open(99);
    offer(stage, "a1", "a2", "a3", "a4", "a5", "a6");
    expect(order(stage, 2)).toBe("a1 a2");
    offer(stage, "b1", "b2", "c1");
    expect(order(stage, 7)).toBe("b1 c1 a3 b2 a4 a5 a6");
  });

  test("weights are shares of tokens, not of jobs", () => {
    const stage = open(200, { a: { weight: 300 } });
    for (let i = 0; i < 30; i++) {
      stage.queue.offer(job(`a${i}`, 20), 0);
      stage.queue.offer(job(`b${i}`, 10), 0);
    }
    const served = order(stage, 25).split(" ");
    // Three times as many tokens in jobs twice as long: three jobs to two.
    expect(served.filter((id) => id.startsWith("a"))).toHaveLength(15);
  });

  test("a job is charged what it may take and settled with what it took", () => {
    const stage = open(99);
    for (const id of ["a1", "a2", "a3"]) stage.queue.offer(job(id, 10, 90), 0);
    for (const id of ["b1", "b2", "b3", "b4"]) stage.queue.offer(job(id, 50), 0);
    const take = (expected: string) => {
      const head = stage.queue.head() as Job;
      expect(head.id).toBe(expected);
      stage.queue.take(head);
      return head;
    };
    const a1 = take("a1");
    take("b1");
    take("b2");
    // While a1 may still take all of its 100 tokens, a has had as much as b.
    const a2 = take("a2");
    stage.queue.settle(a1, 12);
    stage.queue.settle(a2, 13);
    // Now a has had 25 and b 100.
    take("a3");
  });

  test("credit does not pile up in absence: who comes back has its turn at once, and then takes turns", () => {
    const stage = open(99);
    offer(stage, "b1", "b2", "b3", "b4", "b5");
    expect(order(stage, 3)).toBe("b1 b2 b3");
    offer(stage, "a1", "a2", "a3");
    expect(order(stage, 5)).toBe("a1 b4 a2 b5 a3");
  });

  test("what is saved up to the burst lets requests that come at once go first, and no more than that", () => {
    const stage = open(99, {}, 30);
    offer(stage, "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8", "b9");
    // b has used up what it had, and 30 more that everybody else is credited as well.
    expect(order(stage, 6)).toBe("b1 b2 b3 b4 b5 b6");
    offer(stage, "a1", "a2", "a3", "a4", "a5", "a6");
    expect(order(stage, 8)).toBe("a1 a2 a3 a4 b7 a5 b8 a6");
  });

  test("savings come back while others are served", () => {
    const stage = open(99, {}, 20);
    offer(stage, "a1", "a2", "a3", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8");
    expect(order(stage, 7)).toBe("a1 b1 a2 b2 a3 b3 b4");
    offer(stage, "a4", "a5", "a6");
    expect(order(stage, 7)).toBe("a4 b5 a5 b6 a6 b7 b8");
  });

  test("a debt outlives a short absence, and is paid off while others are served", () => {
    const stage = open(99);
    stage.queue.offer(job("a1", 40), 0);
    offer(stage, "b1", "b2", "b3", "b4", "b5", "b6");
    expect(order(stage, 1)).toBe("a1");
    offer(stage, "a2");
    expect(order(stage, 7)).toBe("b1 b2 b3 b4 a2 b5 b6");
  });

  test("the head stays the head until it leaves, so that nobody overtakes what it waits for", () => {
    const stage = open(99);
    offer(stage, "a1");
    expect(stage.queue.head()?.id).toBe("a1");
    offer(stage, "b1");
    expect(stage.queue.head()?.id).toBe("a1");
    expect(stage.queue.remove("a1")?.id).toBe("a1");
    expect(stage.queue.head()?.id).toBe("b1");
    expect(stage.queue.remove("a1")).toBeUndefined();
  });
});

describe("limits", () => {
  test("a tenant at its most running jobs is passed over, and let in when one is over or the limit is raised", () => {
    const stage = open(99, { a: { maxRunning: 1 } });
    offer(stage, "a1", "a2", "a3", "b1");
    const running: Job[] = [];
    const take = () => {
      const head = stage.queue.head();
      if (head !== undefined) {
        stage.queue.take(head);
        running.push(head);
      }
      return head?.id;
    };
    expect([take(), take(), take()]).toEqual(["a1", "b1", undefined]);
    stage.queue.settle(running[0] as Job, 10);
    expect([take(), take()]).toEqual(["a2", undefined]);
    stage.shares.set("a", { maxRunning: 2 });
    expect(take()).toBe("a3");
  });

  test("one tenant has half of the room, two a third each, and there is room for who has nothing waiting", () => {
    const stage = open(12);
    const flood = (tenant: string) => {
      let count = 0;
      while (offer(stage, `${tenant}${count}`)[0] === "waits") count++;
      return count;
    };
    expect(flood("a")).toBe(6);
    expect(flood("b")).toBe(3);
    expect([flood("c"), flood("d"), flood("e"), flood("f")]).toEqual([2, 1, 0, 0]);
    expect(stage.queue.size).toBe(12);
    expect(offer(stage, "g")).toEqual(["full of everybody"]);
  });

  test("its own limit refuses a tenant, and jobs that a free slot is there for do not count", () => {
    const stage = open(99, { a: { maxWaiting: 1 } });
    expect(offer(stage, "a1", "a2")).toEqual(["waits", "full of tenant"]);
    expect(stage.queue.offer(job("a3"), 2)).toBeUndefined();
    expect(stage.queue.offer(job("a4"), 2)).toBeUndefined();
    expect(stage.queue.offer(job("a5"), 2)).toEqual({ reason: "QUEUE_FULL", whose: "tenant" });
  });

  test("a free slot that a tenant may not take lets none of its jobs in: they wait, and count", () => {
    const stage = open(99, { a: { maxRunning: 2, maxWaiting: 1 } });
    offer(stage, "a1");
    stage.queue.take(stage.queue.head() as Job);
    // Four slots are free, and one of them is for this tenant.
    expect(stage.queue.offer(job("a2"), 4)).toBeUndefined();
    expect(stage.queue.offer(job("a3"), 4)).toBeUndefined();
    expect(stage.queue.offer(job("a4"), 4)).toEqual({ reason: "QUEUE_FULL", whose: "tenant" });
    expect(stage.queue.offer(job("b1"), 4)).toBeUndefined();
  });

  test("tokens per minute refuse with a delay after which the same job is let in, and what was not taken is given back", () => {
    const stage = open(99, { a: { tokensPerMinute: 600 } });
    const take = (id: string, took: number) => {
      const head = stage.queue.head() as Job;
      expect(head.id).toBe(id);
      stage.queue.take(head);
      stage.queue.settle(head, took);
    };
    expect(stage.queue.offer(job("a1", 100, 400), 0)).toBeUndefined();
    const limited = stage.queue.offer(job("a2", 100, 100), 0);
    // 600 − 500 are left of 200, and ten come per second.
    expect(limited).toEqual({ reason: "RATE_LIMITED", retryAfterMillis: 10_000 });
    stage.now += 9_999;
    expect(stage.queue.offer(job("a2", 100, 100), 0)).toMatchObject({ reason: "RATE_LIMITED" });
    stage.now += 1;
    expect(stage.queue.offer(job("a2", 100, 100), 0)).toBeUndefined();
    take("a1", 200);
    expect(stage.queue.offer(job("a3", 300), 0)).toBeUndefined();
    expect(stage.queue.offer(job("a4", 1), 0)).toEqual({ reason: "RATE_LIMITED", retryAfterMillis: 100 });
    expect(stage.queue.remove("a3")).toBeDefined();
    expect(stage.queue.offer(job("a4", 300), 0)).toBeUndefined();
    expect(stage.queue.offer(job("b1", 9999), 0)).toBeUndefined();
  });

  test("a job over a whole minute's tokens needs a full bucket and leaves a debt; a refused one costs nothing", () => {
    const stage = open(99, { a: { tokensPerMinute: 60 } });
    expect(stage.queue.offer(job("a1", 120), 0)).toBeUndefined();
    expect(stage.queue.offer(job("a2", 120), 0)).toEqual({ reason: "RATE_LIMITED", retryAfterMillis: 120_000 });
    expect(stage.queue.offer(job("a3", 1), 0)).toEqual({ reason: "RATE_LIMITED", retryAfterMillis: 61_000 });
    stage.now += 120_000;
    expect(stage.queue.offer(job("a2", 120), 0)).toBeUndefined();
    stage.shares.delete("a");
    expect(stage.queue.offer(job("a4", 120), 0)).toBeUndefined();
  });
});

test("a job that has taken more than it was charged takes no slot back where its tenant has nothing saved", () => {
  const { queue } = open(8);
  const [one, other] = [job("a1"), job("b1")];
  for (const each of [one, other]) {
    queue.offer(each, 2);
    queue.take(queue.head() as Job);
  }
  // Positions were computed again and again: nothing is left to be paid.
  queue.preempt(one, 25);
  expect(queue.claim([other])).toBeUndefined();
  queue.settle(other, 10);
  expect(queue.head()).toBe(one);
});

test("it refuses a capacity that nothing fits in, and to take or settle what is not there", () => {
  expect(() => open(0)).toThrow(/queue capacity/);
  const stage = open(1);
  expect(() => stage.queue.take(job("a1"))).toThrow(/does not wait/);
  expect(() => stage.queue.settle(job("a1"), 1)).toThrow(/does not run/);
});
