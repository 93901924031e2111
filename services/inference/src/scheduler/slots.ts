import type { Ending, Job } from "./job.ts";

/**
 * One row of the KV cache.
 *
 * - `free`: nothing in it is needed
 * - `prefilling`: positions before `next` hold what came so far; those up to `goal` are prefilled next. `repeats`: it decoded
 *   before, some of its positions are computed anew, and its newest token goes to `goal`
 * - `decoding`: positions before `next` hold prompt and reply; the newest token goes to `next`
 * - `leaving`: the job ended while a step was in flight; free when the step is over
 */
export type SlotState<J extends Job> =
  | { readonly kind: "free" }
  | {
      readonly kind: "prefilling";
      readonly job: J;
      readonly next: number;
      readonly goal: number;
      readonly repeats: boolean;
    }
  | { readonly kind: "decoding"; readonly job: J; readonly next: number }
  | { readonly kind: "leaving"; readonly job: J; readonly ending: Ending };

/** A job out of its slot, as it was there. */
export interface Suspended<J extends Job> {
  readonly state: Extract<SlotState<J>, { kind: "prefilling" | "decoding" }>;
  /** Positions computed so far. */
  readonly computed: number;
}

/** The slots, who is in which, and whose turn it is to prefill. */
export class Slots<J extends Job> {
  readonly #states: SlotState<J>[];
  readonly #slotOf = new Map<string, number>();
  /** Prefilling slots; the first has waited longest for a chunk. */
  readonly #prefillTurns: number[] = [];
  /** Positions computed for the job in each slot. */
  readonly #computed: number[];

  constructor(count: number) {
    this.#states = Array.from({ length: count }, () => ({ kind: "free" }));
    this.#computed = new Array(count).fill(0);
  }

  get states(): readonly SlotState<J>[] {
    return this.#states;
  }

  state(slot: number): SlotState<J> {
    const state = this.#states[slot];
    if (state === undefined) throw new RangeError(`no slot ${slot}`);
    return state;
  }

  slotOf(id: string): number | undefined {
    return this.#slotOf.get(id);
  }

  /** Positions computed so far for the job in `slot`; one counts as often as it was computed. */
  computed(slot: number): number {
    return this.#computed[slot] ?? 0;
  }

  /** Slots of jobs that are at work, but for followers, in the order in which the jobs were let in. */
  atWork(): number[] {
    return [...this.#slotOf.values()].filter((slot) => {
      const state = this.state(slot);
      return (state.kind === "prefilling" || state.kind === "decoding") && state.job.follower === undefined;
    });
  }

  free(): number {
    return this.#states.filter((state) => state.kind === "free").length;
  }

  /** The lowest one: a decode step runs over every slot up to the highest in use. */
  lowestFree(): number | undefined {
    const slot = this.#states.findIndex((state) => state.kind === "free");
    return slot < 0 ? undefined : slot;
  }

  highestDecoding(): number | undefined {
    const slot = this.#states.findLastIndex((state) => state.kind === "decoding");
    return slot < 0 ? undefined : slot;
  }

  /** Slots of followers. */
  followers(): number[] {
    return [...this.#states.keys()].filter((slot) => {
      const state = this.state(slot);
      return state.kind === "prefilling" && state.job.follower !== undefined;
    });
  }

  /** The slot whose turn it is: followers come after everybody, and only with tokens that are there. */
  nextToPrefill(): number | undefined {
    const jobOf = (slot: number) => {
      const state = this.state(slot);
      return state.kind === "prefilling" ? state : undefined;
    };
    return (
      this.#prefillTurns.find((slot) => jobOf(slot)?.job.follower === undefined) ??
      this.#prefillTurns.find((slot) => {
        const state = jobOf(slot);
        return state !== undefined && knownTokens(state.job) > state.next;
      })
    );
  }

  occupy(slot: number, job: J): void {
    this.#states[slot] = { kind: "prefilling", job, next: 0, goal: job.tokens, repeats: false };
    this.#slotOf.set(job.id, slot);
    this.#computed[slot] = 0;
    this.#prefillTurns.push(slot);
  }

  /** A job that is at work leaves its slot without an end. @returns what `resume` takes */
  suspend(slot: number): Suspended<J> {
    const state = this.state(slot);
    if (state.kind !== "prefilling" && state.kind !== "decoding") throw new Error(`slot ${slot} is ${state.kind}`);
    this.release(slot, state.job);
    return { state, computed: this.computed(slot) };
  }

  /** The job goes on where it was, in a slot that has its keys and values. */
  resume(slot: number, { state, computed }: Suspended<J>): void {
    this.#states[slot] = state;
    this.#slotOf.set(state.job.id, slot);
    this.#computed[slot] = computed;
    if (state.kind === "prefilling") this.#prefillTurns.push(slot);
  }

  /** A chunk is in: the slot goes to the end of the prefill turns, or on to decoding. */
  advancePrefill(slot: number, next: number): void {
    const state = this.state(slot);
    if (state.kind !== "prefilling") throw new Error(`slot ${slot} is ${state.kind}`);
    this.#leaveTurns(slot);
    if (next < state.goal) {
      this.#states[slot] = { ...state, next };
      this.#prefillTurns.push(slot);
    } else {
      this.#states[slot] = { kind: "decoding", job: state.job, next };
    }
  }

  advanceDecode(slot: number, job: J, next: number): void {
    this.#states[slot] = { kind: "decoding", job, next };
  }

  /** Compute positions `from` to `goal` − 1 anew, then decode on from `goal`. */
  rewind(slot: number, job: J, from: number, goal: number): void {
    this.#leaveTurns(slot);
    if (from === goal) {
      this.#states[slot] = { kind: "decoding", job, next: goal };
    } else {
      this.#states[slot] = { kind: "prefilling", job, next: from, goal, repeats: true };
      this.#prefillTurns.push(slot);
    }
  }

  count(slot: number, positions: number): void {
    this.#computed[slot] = this.computed(slot) + positions;
  }

  leave(slot: number, job: J, ending: Ending): void {
    this.#states[slot] = { kind: "leaving", job, ending };
  }

  release(slot: number, job: J): void {
    this.#leaveTurns(slot);
    this.#states[slot] = { kind: "free" };
    this.#slotOf.delete(job.id);
  }

  #leaveTurns(slot: number): void {
    const turn = this.#prefillTurns.indexOf(slot);
    if (turn >= 0) this.#prefillTurns.splice(turn, 1);
  }
}

/** Tokens of a job that can be prefilled now. */
export function knownTokens({ tokens, follower }: Job): number {
  return follower === undefined ? tokens : Math.min(tokens, follower.available);
}
