import { z } from "zod";

/**
 * A linear classifier over words: binary features of word n-grams and of the length, one weight per class.
 *
 * It was trained on the corpus generator's text alone, and knows nothing of the model or of steering: that is what makes it
 * a judge.
 */
export const classifierSchema = z.object({
  classes: z.array(z.string()).min(2),
  features: z.object({
    lowercase: z.boolean(),
    pattern: z.string(),
    ngrams: z.array(z.int().min(1).max(5)).min(1),
    lengthBuckets: z.array(z.int().min(1)).nullable(),
    value: z.literal("binary"),
  }),
  vocabulary: z.record(z.string(), z.int().min(0)),
  /** By class, then by feature. */
  weights: z.array(z.array(z.number())),
  bias: z.array(z.number()),
  heldOutAccuracy: z.number().min(0).max(1),
});

export type Classifier = z.infer<typeof classifierSchema>;

/** The class that the classifier gives a text. */
export function classify(classifier: Classifier, text: string): string {
  const features = featuresOf(classifier, text);
  const scores = classifier.classes.map((_, index) => {
    const weights = classifier.weights[index] as number[];
    return features.reduce((sum, feature) => sum + (weights[feature] as number), classifier.bias[index] as number);
  });
  return classifier.classes[scores.indexOf(Math.max(...scores))] as string;
}

/** Indices of the features that a text has, each once. */
function featuresOf({ features, vocabulary }: Classifier, text: string): number[] {
  const words = (features.lowercase ? text.toLowerCase() : text).match(new RegExp(features.pattern, "g")) ?? [];
  const names = features.ngrams.flatMap((n) =>
    Array.from({ length: Math.max(0, words.length - n + 1) }, (_, i) => words.slice(i, i + n).join(" ")),
  );
  for (const bucket of features.lengthBuckets ?? []) if (words.length <= bucket) names.push(`len<=${bucket}`);
  return [...new Set(names.flatMap((name) => (Object.hasOwn(vocabulary, name) ? [vocabulary[name] as number] : [])))];
}
