/** Depth where steering changes what is said rather than how it is spelt: layers 15 to 20 of 32 in the reference article. */
const BAND = { from: 0.45, to: 0.65 };

/**
 * Layers to try first: those whose depth `layer / layerCount` lies in the middle band, never the last block.
 *
 * A starting point for a sweep. Small models steer best nearer to a third of their depth.
 *
 * @returns ascending, at least one
 */
export function middleBand(layerCount: number): number[] {
  const last = Math.max(0, layerCount - 2);
  const from = Math.min(last, Math.ceil(BAND.from * layerCount));
  const to = Math.max(from, Math.min(last, Math.floor(BAND.to * layerCount)));
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
