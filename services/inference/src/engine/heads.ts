import { HEAD, logSumExp } from "@persona-mesh/model/graph";
import type { HeadBatch, ModelRuntime } from "@persona-mesh/model/runtime";
import type { TokenLogProb, TopRow } from "../sampling/index.ts";

/** The top head's answer for one row. */
export interface TopState {
  readonly row: TopRow;
  /** Shannon entropy at temperature 1, nats. */
  readonly entropy: number;
}

/**
 * Turns hidden states into what a call needs. Calls do not overlap: each reuses the buffers of the one before.
 */
export class Heads {
  readonly #runtime: ModelRuntime;

  constructor(runtime: ModelRuntime) {
    this.#runtime = runtime;
  }

  /**
   * @param hidden - float32[hidden] per row
   * @param temperatures - one per row; 0 (greedy) is read as 1
   */
  async top(hidden: readonly Float32Array[], temperatures: readonly number[]): Promise<TopState[]> {
    const head = this.#filled("head-top", hidden);
    const inverse = head.floats(HEAD.inverseTemperature);
    temperatures.forEach((temperature, row) => {
      inverse[row] = temperature > 0 ? 1 / temperature : 1;
    });
    await head.run();
    const logits = head.floats(HEAD.topLogits);
    const ids = head.longs(HEAD.topIds);
    const candidates = logits.length / hidden.length;
    return hidden.map((_, row) => {
      const [from, to] = [row * candidates, (row + 1) * candidates];
      return {
        row: {
          kind: "top",
          logits: logits.slice(from, to),
          ids: Int32Array.from(ids.subarray(from, to), Number),
          vocabulary: this.#runtime.spec.vocabulary,
          logSumExp: normalizer(head, row),
          temperedLogSumExp: logSumExp(
            value(head, HEAD.maxLogit, row) * (inverse[row] as number),
            value(head, HEAD.temperedMaxProbability, row),
          ),
        },
        entropy: entropy(head, row),
      };
    });
  }

  /** Every logit of one row, float32[vocabulary]. */
  async logits(hidden: Float32Array): Promise<Float32Array> {
    const [logits] = await this.allLogits([hidden]);
    return logits as Float32Array;
  }

  /** Every logit of each row, float32[vocabulary]. @param hidden - float32[hidden] per row, as many as there are slots at most */
  async allLogits(hidden: readonly Float32Array[]): Promise<Float32Array[]> {
    if (hidden.length === 0) return [];
    const head = this.#filled("head-logits", hidden);
    await head.run();
    const logits = head.floats(HEAD.logits);
    const { vocabulary } = this.#runtime.spec;
    return hidden.map((_, row) => logits.slice(row * vocabulary, (row + 1) * vocabulary));
  }

  /**
   * Log-probability of one token after each hidden state, and the entropy there, nats.
   *
   * @param hidden - float32[rows, hidden]
   */
  async score(
    hidden: Float32Array,
    ids: readonly number[],
  ): Promise<{ logProbs: Float32Array; entropies: Float32Array }> {
    const width = this.#runtime.spec.hidden;
    const logProbs = new Float32Array(ids.length);
    const entropies = new Float32Array(ids.length);
    // In pieces as wide as a decode step: the logits of a long chunk would be hundreds of megabytes.
    for (let from = 0; from < ids.length; from += this.#runtime.slots) {
      const piece = ids.slice(from, from + this.#runtime.slots);
      const head = this.#runtime.headBatch("head-score", piece.length);
      head.floats(HEAD.hidden).set(hidden.subarray(from * width, (from + piece.length) * width));
      head.ints(HEAD.ids).set(piece);
      await head.run();
      for (const row of piece.keys()) {
        logProbs[from + row] = value(head, HEAD.pickedLogit, row) - normalizer(head, row);
        entropies[from + row] = entropy(head, row);
      }
    }
    return { logProbs, entropies };
  }

  /**
   * The most likely tokens after each hidden state, most likely first.
   *
   * @param hidden - float32[rows, hidden]
   * @param count - as many as the top head has, at most
   */
  async likeliest(hidden: Float32Array, count: number): Promise<TokenLogProb[][]> {
    const width = this.#runtime.spec.hidden;
    const rows = Array.from({ length: hidden.length / width }, (_, row) =>
      hidden.subarray(row * width, (row + 1) * width),
    );
    const found: TokenLogProb[][] = [];
    // In pieces as wide as a decode step, as scores are.
    for (let from = 0; from < rows.length; from += this.#runtime.slots) {
      const piece = rows.slice(from, from + this.#runtime.slots);
      const temperatures = piece.map(() => 1);
      for (const { row } of await this.top(piece, temperatures)) {
        const ids = Array.from(row.ids.subarray(0, count));
        found.push(ids.map((id, rank) => ({ id, logProb: (row.logits[rank] as number) - row.logSumExp })));
      }
    }
    return found;
  }

  /**
   * KL of the distribution after each hidden state to that after the other one beside it, nats.
   *
   * @param hidden - float32[rows, hidden]
   * @param others - float32[rows, hidden]
   */
  async divergence(hidden: Float32Array, others: Float32Array): Promise<Float32Array> {
    const width = this.#runtime.spec.hidden;
    const rows = hidden.length / width;
    const divergences = new Float32Array(rows);
    // In pieces as wide as a decode step, as scores are.
    for (let from = 0; from < rows; from += this.#runtime.slots) {
      const count = Math.min(this.#runtime.slots, rows - from);
      const [start, end] = [from * width, (from + count) * width];
      const head = this.#runtime.headBatch("head-divergence", count);
      head.floats(HEAD.hidden).set(hidden.subarray(start, end));
      head.floats(HEAD.otherHidden).set(others.subarray(start, end));
      await head.run();
      for (let row = 0; row < count; row++) {
        const other = logSumExp(value(head, HEAD.otherMaxLogit, row), value(head, HEAD.otherMaxProbability, row));
        const kl = value(head, HEAD.expectedDifference, row) - normalizer(head, row) + other;
        // Equal rows may come out a rounding below 0.
        divergences[from + row] = Math.max(0, kl);
      }
    }
    return divergences;
  }

  #filled(role: "head-top" | "head-logits", hidden: readonly Float32Array[]) {
    const head = this.#runtime.headBatch(role, hidden.length);
    const input = head.floats(HEAD.hidden);
    hidden.forEach((row, index) => {
      input.set(row, index * row.length);
    });
    return head;
  }
}

function value(head: HeadBatch, name: string, row: number): number {
  return head.floats(name)[row] as number;
}

function normalizer(head: HeadBatch, row: number): number {
  return logSumExp(value(head, HEAD.maxLogit, row), value(head, HEAD.maxProbability, row));
}

function entropy(head: HeadBatch, row: number): number {
  return normalizer(head, row) - value(head, HEAD.expectedLogit, row);
}
