import { auc } from "./auc.ts";
import { SteeringError } from "./error.ts";
import type { Extraction, LayerQuality } from "./extraction.ts";
import { dot, type Vector } from "./vector-math.ts";

/**
 * Whether a direction separates pairs that it was not made from.
 *
 * On the pairs that it *was* made from any direction looks perfect: with more hidden units than pairs, pure noise reaches
 * an AUC of 1.0. So each fold's pairs are judged by a direction extracted without them.
 */

/** Folds; pair i belongs to fold i mod FOLDS, so that nothing is random. */
const FOLDS = 5;

/** Least AUC and share of right signs, however many pairs: chance is 0.5, and shuffled labels stay within 0.5 ± 0.1. */
export const MIN_SEPARATION = 0.65;

/**
 * @param positive - [pairs][hidden]
 * @param negative - [pairs][hidden], in the same order
 * @param axisOf - axis extracted from these pairs only, or undefined when they have none
 * @returns means over the folds, weighted by their pairs. An AUC never compares projections on two different axes; a fold
 *   without an axis counts as chance
 */
export function heldOutSeparation(
  positive: readonly Vector[],
  negative: readonly Vector[],
  axisOf: (members: readonly number[]) => Vector | undefined,
): { auc: number; rightSignShare: number } {
  const pairs = positive.map((_, pair) => pair);
  const folds = Math.min(FOLDS, pairs.length);
  let aucSum = 0;
  let rightSigns = 0;
  for (let fold = 0; fold < folds; fold++) {
    const heldOut = pairs.filter((pair) => pair % folds === fold);
    const axis = axisOf(pairs.filter((pair) => pair % folds !== fold));
    if (axis === undefined) {
      aucSum += 0.5 * heldOut.length;
      rightSigns += 0.5 * heldOut.length;
      continue;
    }
    const along = heldOut.map((pair) => dot(positive[pair] as Vector, axis));
    const against = heldOut.map((pair) => dot(negative[pair] as Vector, axis));
    aucSum += auc(along, against) * heldOut.length;
    for (const [i, projection] of along.entries()) {
      rightSigns += (Math.sign(projection - (against[i] as number)) + 1) / 2;
    }
  }
  return { auc: aucSum / pairs.length, rightSignShare: rightSigns / pairs.length };
}

/**
 * What the held-out figures must reach to be more than luck.
 *
 * Under shuffled labels the share of right signs is a mean of coin flips, of standard deviation ½/√pairs, and the AUC
 * spreads no wider. Three of those, since several layers are tried and the best is kept: 16 pairs must reach 0.875,
 * 100 pairs 0.65. Below ten pairs nothing can: they prove nothing.
 */
export function separationFloor(pairCount: number): number {
  return Math.max(MIN_SEPARATION, 0.5 + 1.5 / Math.sqrt(pairCount));
}

/** Whether a direction separates held-out pairs better than luck may: both figures at or over the floor. */
export function separates(quality: Pick<LayerQuality, "auc" | "rightSignShare">, pairCount: number): boolean {
  return Math.min(quality.auc, quality.rightSignShare) >= separationFloor(pairCount);
}

/**
 * Go on only with directions that separate. Shuffled labels and noise are refused here.
 *
 * @param layers - which layers are going to be used. @default all that were extracted
 * @throws SteeringError NO_SEPARATION for the first layer that does not, LAYER_OUT_OF_RANGE for one not extracted
 */
export function requireSeparation(extraction: Extraction, layers?: readonly number[]): void {
  const { pairCount } = extraction;
  for (const layer of layers ?? extraction.layers.map((extracted) => extracted.layer)) {
    const quality = extraction.layers.find((extracted) => extracted.layer === layer)?.quality;
    if (quality === undefined) {
      throw new SteeringError("LAYER_OUT_OF_RANGE", `nothing was extracted at layer ${layer}`, { layer });
    }
    if (separates(quality, pairCount)) continue;
    const floor = separationFloor(pairCount);
    const figures = `held-out AUC ${quality.auc.toFixed(3)} and share of right signs ${quality.rightSignShare.toFixed(3)}`;
    const message = `layer ${layer}: ${figures}, of which ${pairCount} pairs must reach ${floor.toFixed(3)}; use pairs that differ more clearly in the concept alone, or more of them`;
    throw new SteeringError("NO_SEPARATION", message, {
      layer,
      auc: quality.auc,
      rightSignShare: quality.rightSignShare,
      floor,
      pairs: pairCount,
    });
  }
}
