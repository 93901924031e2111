import type { Reply } from "../reply.ts";

/** A distribution over the vocabulary, and its entropy in nats. */
interface Prediction {
  readonly probabilities: Float64Array;
  readonly entropy: number;
}

/**
 * A small language model: n-grams with Witten–Bell smoothing. It gives the tests real entropies and surprisals, of text
 * that it samples itself, of text that it never saw, and of text that nobody would write.
 */
export class NgramModel {
  readonly vocabulary: readonly string[];
  readonly #order: number;
  readonly #ids: ReadonlyMap<string, number>;
  /** How often each token followed a context, keyed by the context's ids. */
  readonly #followers = new Map<string, Map<number, number>>();
  readonly #predictions = new Map<string, Prediction>();

  /**
   * @param order - tokens looked at, the predicted one included
   * @param texts - what it learns, as tokens
   * @param known - further tokens of the vocabulary
   */
  constructor(order: number, texts: readonly (readonly string[])[], known: readonly string[] = []) {
    this.#order = order;
    this.vocabulary = [...new Set([...texts.flat(), ...known])].sort();
    this.#ids = new Map(this.vocabulary.map((token, id) => [token, id]));
    for (const text of texts) {
      const ids = this.encode(text);
      for (const [i, id] of ids.entries()) {
        for (const context of this.#contexts(ids, i)) {
          const counts = this.#followers.get(context) ?? new Map<number, number>();
          counts.set(id, (counts.get(id) ?? 0) + 1);
          this.#followers.set(context, counts);
        }
      }
    }
  }

  encode(text: readonly string[]): number[] {
    return text.map((token) => {
      const id = this.#ids.get(token);
      if (id === undefined) throw new RangeError(`unknown token ${token}`);
      return id;
    });
  }

  /** A text as the model reads it. */
  read(ids: readonly number[]): Reply {
    const predictions = ids.map((_, i) => this.#predict(ids, i));
    return {
      tokenIds: ids,
      entropies: predictions.map(({ entropy }) => entropy),
      logProbs: predictions.map(({ probabilities }, i) => Math.log(probabilities[ids[i] as number] as number)),
    };
  }

  /** A text as the model writes it, at temperature 1. */
  sample(length: number, next: () => number): number[] {
    const ids: number[] = [];
    while (ids.length < length) {
      let left = next();
      const { probabilities } = this.#predict(ids, ids.length);
      let id = 0;
      while (id < probabilities.length - 1 && left >= (probabilities[id] as number)) {
        left -= probabilities[id] as number;
        id++;
      }
      ids.push(id);
    }
    return ids;
  }

  #predict(ids: readonly number[], i: number): Prediction {
    const contexts = this.#contexts(ids, i);
    const key = contexts.at(-1) as string;
    const known = this.#predictions.get(key);
    if (known !== undefined) return known;
    const probabilities = new Float64Array(this.vocabulary.length).fill(1 / this.vocabulary.length);
    for (const context of contexts) {
      const counts = this.#followers.get(context);
      if (counts === undefined) break;
      const total = [...counts.values()].reduce((sum, count) => sum + count, 0) + counts.size;
      // Witten–Bell: as much mass for what is new here as different tokens were seen here.
      for (let id = 0; id < probabilities.length; id++) {
        probabilities[id] = ((probabilities[id] as number) * counts.size + (counts.get(id) ?? 0)) / total;
      }
    }
    const entropy = -probabilities.reduce((sum, p) => sum + p * Math.log(p), 0);
    const prediction = { probabilities, entropy };
    this.#predictions.set(key, prediction);
    return prediction;
  }

  /** From the shortest to the longest: no tokens, one, two … */
  #contexts(ids: readonly number[], i: number): string[] {
    return Array.from({ length: this.#order }, (_, length) =>
      Array.from({ length }, (_, j) => ids[i - length + j] ?? "^").join(" "),
    );
  }
}
