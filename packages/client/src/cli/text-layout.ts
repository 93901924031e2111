import stringWidth from "string-width";

/**
 * Text in columns of a terminal: widths are display columns, so that wide characters (CJK, emoji) count two.
 */

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const words = new Intl.Segmenter(undefined, { granularity: "word" });

/** Display columns of a text without line breaks. */
export const displayWidth = (text: string): number => stringWidth(text);

/**
 * Text that a terminal cannot act on: escape sequences in a model's reply or a server's message would otherwise move
 * the cursor, recolour, or worse. Control characters other than line break and tab become their visible picture.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (character) => {
    const code = character.charCodeAt(0);
    if (code === 0x7f) return "\u2421";
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : "\ufffd";
  });
}

/** The text, padded with spaces to a width; as it is where it is wider. */
export function padEnd(text: string, width: number): string {
  return text + " ".repeat(Math.max(0, width - displayWidth(text)));
}

export function padStart(text: string, width: number): string {
  return " ".repeat(Math.max(0, width - displayWidth(text))) + text;
}

/** The longest start of a text within a width, with an ellipsis where something was cut. */
export function truncate(text: string, width: number): string {
  if (displayWidth(text) <= width) return text;
  let kept = "";
  let used = 0;
  for (const { segment } of graphemes.segment(text)) {
    const columns = displayWidth(segment);
    if (used + columns > width - 1) break;
    kept += segment;
    used += columns;
  }
  return `${kept}…`;
}

/**
 * Lines of at most `width` columns, broken between words where possible and inside a word where it is too long. Line
 * breaks of the text stay; tabs become two spaces, since their width depends on where they stand.
 *
 * @param width - display columns; a single character that is wider, as a few ornate ones are, has a line to itself
 */
export function wrap(text: string, width: number): string[] {
  return text
    .replaceAll("\t", "  ")
    .split(/\r\n|\n|\r/)
    .flatMap((paragraph) => wrapParagraph(paragraph, width));
}

function wrapParagraph(paragraph: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  let used = 0;
  const finish = () => {
    lines.push(line.trimEnd());
    line = "";
    used = 0;
  };
  for (const unit of unbreakable(paragraph)) {
    const columns = displayWidth(unit);
    // A space at the end of a full line is the break itself.
    if (unit.trim() === "" && used + columns > width) continue;
    if (used + columns > width && used > 0) finish();
    if (unit.trim() === "" && used === 0 && lines.length > 0) continue;
    if (columns <= width) {
      line += unit;
      used += columns;
      continue;
    }
    for (const { segment } of graphemes.segment(unit)) {
      const wide = displayWidth(segment);
      if (used + wide > width && used > 0) finish();
      line += segment;
      used += wide;
    }
  }
  finish();
  return lines;
}

/** Pieces that stay on one line: words with the punctuation that touches them, and runs of spaces. */
function* unbreakable(paragraph: string): Generator<string> {
  let piece = "";
  for (const { segment, isWordLike } of words.segment(paragraph)) {
    if (segment.trim() === "") {
      if (piece !== "") yield piece;
      piece = "";
      yield segment;
    } else if (isWordLike && piece !== "" && /\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}/u.test(segment)) {
      // These scripts write no spaces; a line may end between any two words.
      yield piece;
      piece = segment;
    } else {
      piece += segment;
    }
  }
  if (piece !== "") yield piece;
}

/** One column of text. */
export interface TextColumn {
  title: string;
  text: string;
}

/**
 * Texts side by side, wrapped to share a width equally.
 *
 * @param width - of the whole, display columns; columns are never narrower than 8
 * @returns lines without a trailing line break; the first two are the titles and a rule
 */
export function sideBySide(columns: readonly TextColumn[], width: number): string[] {
  const gap = " │ ";
  const share = Math.max(8, Math.floor((width - gap.length * (columns.length - 1)) / columns.length));
  const bodies = columns.map((column) => wrap(column.text, share));
  const height = Math.max(...bodies.map((body) => body.length));
  const row = (cells: string[]) =>
    cells
      .map((cell) => padEnd(cell, share))
      .join(gap)
      .trimEnd();
  const lines = [
    row(columns.map((column) => truncate(column.title, share))),
    columns.map(() => "─".repeat(share)).join("─┼─"),
  ];
  for (let index = 0; index < height; index++) lines.push(row(bodies.map((body) => body[index] ?? "")));
  return lines;
}
