/** Share of a sample that its tail is fitted to, and the fewest values that say anything of a tail. */
const TAIL_SHARE = 0.05;
const MIN_TAIL = 8;

/**
 * A value that a small share of further draws exceeds, also where the sample is too small to have that quantile.
 *
 * Peaks over threshold: what lies over a threshold is taken to be exponential, which is heavier than a normal tail. Its scale is
 * known from a few peaks only, so the bound is the quantile of a *further* draw given those (a Lomax distribution) and not that of the
 * fitted exponential, which small samples would exceed too often. Never below the sample's own largest value.
 *
 * @param values - at least 16, finite
 * @param share - above 0, at most {@link TAIL_SHARE}
 * @throws RangeError
 */
export function tailBound(values: readonly number[], share: number): number {
  const count = values.length;
  if (count < 2 * MIN_TAIL || !(share > 0 && share <= TAIL_SHARE) || !values.every(Number.isFinite)) {
    throw new RangeError(`no tail of ${share} in ${count} values`);
  }
  const descending = [...values].sort((a, b) => b - a);
  const peaks = Math.max(MIN_TAIL, Math.ceil(TAIL_SHARE * count));
  const threshold = descending[peaks] as number;
  const excess = descending.slice(0, peaks).reduce((sum, value) => sum + value - threshold, 0) / peaks;
  const spread = peaks * ((peaks / count / share) ** (1 / peaks) - 1);
  return Math.max(descending[0] as number, threshold + excess * spread);
}
