import type { Ending, Job } from "./job.ts";

/**
 * One row of the KV cache.
 *
 * - `free`: nothing in it is needed
 * - `prefilling`: positions before `next` hold the prompt
 * - `decoding`: positions before `next` hold prompt and reply; the newest token goes to `next`
 * - `leaving`: the job ended while a step was in flight; free when the step is over
 */
export type SlotState<J extends Job> =
  | { readonly kind: "free" }
  | { readonly kind: "prefilling"; readonly job: J; readonly next: number }
  | { readonly kind: "decoding"; readonly job: J; readonly next: number }
  | { readonly kind: "leaving"; readonly job: J; readonly ending: Ending };

/** The slots, who is in which, and whose turn it is to prefill. */
export class Slots<J extends Job> {
  readonly #states: SlotState<J>[];
  readonly #slotOf = new Map<string, number>();
  /** Prefilling slots; the first has waited longest for a chunk. */
  readonly #prefillTurns: number[] = [];

  constructor(count: number) {
    this.#states = Array.from({ length: count }, () => ({ kind: "free" }));
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

  /** The lowest one: a decode step runs over every slot up to the highest in use. */
  lowestFree(): number | undefined {
    const slot = this.#states.findIndex((state) => state.kind === "free");
    return slot < 0 ? undefined : slot;
  }

  highestDecoding(): number | undefined {
    const slot = this.#states.findLastIndex((state) => state.kind === "decoding");
    return slot < 0 ? undefined : slot;
  }

  nextToPrefill(): number | undefined {
    return this.#prefillTurns[0];
  }

  occupy(slot: number, job: J): void {
    this.#states[slot] = { kind: "prefilling", job, next: 0 };
    this.#slotOf.set(job.id, slot);
    this.#prefillTurns.push(slot);
  }

  /** A chunk is in: the slot goes to the end of the prefill turns, or on to decoding. */
  advancePrefill(slot: number, job: J, next: number): void {
    this.#leaveTurns(slot);
    if (next < job.tokens) {
      this.#states[slot] = { kind: "prefilling", job, next };
      this.#prefillTurns.push(slot);
    } else {
      this.#states[slot] = { kind: "decoding", job, next };
    }
  }

  advanceDecode(slot: number, job: J, next: number): void {
    this.#states[slot] = { kind: "decoding", job, next };
  }

  leave(slot: number, job: J, ending: Ending): void {
    this.#states[slot] = { kind: "leaving", job, ending };
  }

  free(slot: number, job: J): void {
    this.#leaveTurns(slot);
    this.#states[slot] = { kind: "free" };
    this.#slotOf.delete(job.id);
  }

  #leaveTurns(slot: number): void {
    const turn = this.#prefillTurns.indexOf(slot);
    if (turn >= 0) this.#prefillTurns.splice(turn, 1);
  }
}
