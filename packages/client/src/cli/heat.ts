/**
 * Projections as shades. The scale is fixed, so that two replies can be compared by eye: a shade is 0.1 of the reference norm
 * wide, as alpha is counted, and the fourth takes all that is beyond. Starter replies at alpha 0.35 reach from −0.3 to 0.6.
 */
export const SHADE_WIDTH = 0.1;
export const MAX_SHADE = 4;

/** −4 to 4; 0 for what is within half a shade of none. */
export function shadeOf(projection: number): number {
  const shade = Math.round(projection / SHADE_WIDTH);
  // Without a negative zero, and without NaN for a projection that overflowed.
  return Math.max(-MAX_SHADE, Math.min(MAX_SHADE, shade)) || 0;
}

/**
 * Background and foreground by shade, of the 256 colours that terminals share: blue against the direction, orange along it,
 * which those tell apart who do not tell red from green.
 */
const COLOURS: Readonly<Record<number, readonly [background: number, foreground: number]>> = {
  [-4]: [26, 231],
  [-3]: [69, 231],
  [-2]: [111, 16],
  [-1]: [153, 16],
  1: [223, 16],
  2: [216, 16],
  3: [209, 16],
  4: [202, 16],
};

/** Colour a piece of text by its projection, line by line: a background that goes on over a line break fills the next line. */
export function paintHeat(text: string, projection: number | undefined): string {
  const colours = projection === undefined ? undefined : COLOURS[shadeOf(projection)];
  if (colours === undefined) return text;
  const [background, foreground] = colours;
  return text.replace(/[^\r\n]+/g, `\u001b[48;5;${background};38;5;${foreground}m$&\u001b[49;39m`);
}

/**
 * The scale on one line.
 *
 * @param layer - where the projections were measured
 * @param coloured - whether it is shown where there are colours; in words alone otherwise
 */
export function heatLegend(layer: number, coloured: boolean): string {
  const shades = Array.from({ length: 2 * MAX_SHADE + 1 }, (_, index) => (index - MAX_SHADE) * SHADE_WIDTH);
  const swatches = shades.map((value) => paintHeat(` ${signed(value, 1)} `, coloured ? value : undefined)).join("");
  return `${swatches} ${heatMeaning(layer)}`;
}

/** What the shades are. */
export function heatMeaning(layer: number): string {
  return `projection on the persona's direction at layer ${layer}, before it is added, as a share of the reference norm`;
}

/** With its sign, for columns of both; a minus that is as wide as the plus. */
export function signed(value: number, digits: number): string {
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : `${value < 0 ? "−" : "+"}${text}`;
}
