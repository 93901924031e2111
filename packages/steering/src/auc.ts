/**
 * Area under the ROC curve: the chance that a random positive scores higher than a random negative, ties half.
 *
 * @param positives - scores, at least one
 * @param negatives - scores, at least one
 * @returns 0 to 1; 0.5 is chance
 * @throws RangeError when a side is empty or a score is NaN
 */
export function auc(positives: ArrayLike<number>, negatives: ArrayLike<number>): number {
  const m = positives.length;
  const n = negatives.length;
  if (m === 0 || n === 0) throw new RangeError("AUC needs a score on both sides");
  const scores = [
    ...Array.from(positives, (score) => ({ score, positive: true })),
    ...Array.from(negatives, (score) => ({ score, positive: false })),
  ];
  if (scores.some(({ score }) => Number.isNaN(score))) throw new RangeError("AUC of a NaN score");
  scores.sort((a, b) => a.score - b.score);

  // Mann–Whitney: the sum of the positives' ranks, where tied scores share the middle of their ranks.
  let rankSum = 0;
  for (let start = 0; start < scores.length; ) {
    let end = start;
    let tiedPositives = 0;
    while (end < scores.length && scores[end]?.score === scores[start]?.score) {
      if (scores[end]?.positive) tiedPositives++;
      end++;
    }
    rankSum += tiedPositives * ((start + 1 + end) / 2);
    start = end;
  }
  return (rankSum - (m * (m + 1)) / 2) / (m * n);
}
