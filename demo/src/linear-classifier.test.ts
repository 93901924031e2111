import { describe, expect, it } from "vitest";
import { readDesk } from "./desk.ts";
import { type Classifier, classify } from "./linear-classifier.ts";

const TINY: Classifier = {
  classes: ["glad", "sad", "short"],
  features: { lowercase: true, pattern: "[a-z']+|[!?.]", ngrams: [1, 2], lengthBuckets: [2], value: "binary" },
  vocabulary: { joy: 0, tears: 1, "no tears": 2, "len<=2": 3, "!": 4 },
  weights: [
    [2, -1, 3, 0, 0.5],
    [-1, 2, -2, 0, 0],
    [0, 0, 0, 5, 0],
  ],
  bias: [0, 0.1, -1],
  heldOutAccuracy: 1,
};

describe("classify", () => {
  it("adds up the weights of words, pairs of words and length", () => {
    expect(classify(TINY, "such JOY here today")).toBe("glad");
    expect(classify(TINY, "so many tears fell")).toBe("sad");
    // The pair outweighs the word.
    expect(classify(TINY, "there were no tears at all")).toBe("glad");
    expect(classify(TINY, "ok")).toBe("short");
    // Nothing known: the bias decides.
    expect(classify(TINY, "one two three four")).toBe("sad");
  });

  it("counts a feature once, however often it is there", () => {
    // Three times −1 and three times 2 for "tears" would beat one "joy" and its exclamation marks.
    const text = "joy ! joy ! tears tears tears";
    expect(classify(TINY, text)).toBe("glad");
  });

  it("agrees with the desk's own pairs: a positive reply has its tone, held out or not", () => {
    const desk = readDesk();
    for (const [tone, pairs] of Object.entries(desk.pairs)) {
      const right = pairs.filter(({ positive }) => classify(desk.toneClassifier, positive) === tone).length;
      expect(right / pairs.length, tone).toBeGreaterThan(0.85);
    }
    expect(desk.toneClassifier.heldOutAccuracy).toBeGreaterThanOrEqual(0.95);
    expect(desk.topicClassifier.heldOutAccuracy).toBeGreaterThanOrEqual(0.95);
  });

  it("was never shown the prompts that it judges by", () => {
    const desk = readDesk();
    const seen = new Set(Object.values(desk.pairs).flatMap((pairs) => pairs.map(({ prompt }) => prompt)));
    expect(desk.prompts.filter(({ text }) => seen.has(text))).toEqual([]);
    expect(desk.prompts.length).toBeGreaterThanOrEqual(200);
  });
});
