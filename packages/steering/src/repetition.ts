/** Tokens of a copied phrase: pairs and triples recur in any text, four in a row seldom do by chance. */
const PHRASE_TOKENS = 4;

/** Fewer tokens cannot be told to repeat: one chance match among the last two or three would look like a loop. */
const MIN_TOKENS = 2 * PHRASE_TOKENS;

/**
 * Tokens in one look, by default. Holds two copies of any loop of up to 32 tokens, about two sentences; longer loops show
 * in a look at the whole reply.
 */
export const REPETITION_WINDOW = 64;

/** Most tokens in one look: it is quadratic; and a phrase of four, as one number to this base, is still exact (2^52). */
const MAX_TOKENS = 8192;

/**
 * How much of the second half of a window copies what stands earlier in it, 0 to 1.
 *
 * The larger of two shares over the second half: tokens that end a phrase of four which occurred before, wherever that was;
 * and tokens equal to the one `lag` before, for the best lag. A loop of any period up to half the window scores 1, since by
 * the second half all of it has been said. The lag finds loops with a slot that changes ("I like tea. I like pie."), the phrases
 * find loops that slip out of step.
 *
 * Prose scores about 0.1 to 0.2: with a few dozen lags to choose from some tokens always agree.
 *
 * @param tokens - token ids, at most 8192; fewer than 8 score 0
 * @throws RangeError for more
 */
export function repetition(tokens: ArrayLike<number>): number {
  const length = tokens.length;
  if (length > MAX_TOKENS) throw new RangeError(`${length} tokens in one look, at most ${MAX_TOKENS}`);
  if (length < MIN_TOKENS) return 0;
  const half = length >> 1;
  return Math.max(copiedPhraseShare(tokens, half), bestLagShare(tokens, half));
}

/**
 * Repetition of a reply: the worst of its windows and of the whole, 0 to 1. Finds a loop that starts late, and one longer
 * than a window.
 *
 * @param window - tokens, at least 8. @default {@link REPETITION_WINDOW}
 * @throws RangeError when the window is too small to hold two copies of anything
 */
export function replyRepetition(tokens: ArrayLike<number>, window: number = REPETITION_WINDOW): number {
  if (!Number.isSafeInteger(window) || window < MIN_TOKENS) {
    throw new RangeError(`a repetition window of ${window} is not a whole number from ${MIN_TOKENS}`);
  }
  const ids = Array.from(tokens);
  let worst = repetition(ids.slice(-MAX_REPLY_TOKENS));
  const stride = Math.max(1, window >> 2);
  for (let end = ids.length; end - window >= 0; end -= stride) {
    worst = Math.max(worst, repetition(ids.slice(end - window, end)));
  }
  return worst;
}

/** The look at the whole reply is quadratic; of longer replies it sees the end. */
const MAX_REPLY_TOKENS = 2048;

function copiedPhraseShare(tokens: ArrayLike<number>, half: number): number {
  const { numbers, distinct } = numbered(tokens);
  const seen = new Set<number>();
  let copied = 0;
  let phrase = 0;
  for (let end = 1; end <= tokens.length; end++) {
    // The phrase of four that ends here, as one number: exact, since it stays below 2^53.
    phrase = (phrase % distinct ** (PHRASE_TOKENS - 1)) * distinct + (numbers[end - 1] as number);
    if (end < PHRASE_TOKENS) continue;
    // Phrases that end in the first half are only remembered.
    if (end > half && seen.has(phrase)) copied++;
    seen.add(phrase);
  }
  return copied / (tokens.length - half);
}

/** Tokens by the order in which they first appear, and how many there are. */
function numbered(tokens: ArrayLike<number>): { readonly numbers: readonly number[]; readonly distinct: number } {
  const known = new Map<number, number>();
  const numbers = Array.from(tokens, (token) => {
    const number = known.get(token) ?? known.size;
    known.set(token, number);
    return number;
  });
  return { numbers, distinct: known.size };
}

function bestLagShare(tokens: ArrayLike<number>, half: number): number {
  let best = 0;
  for (let lag = 1; lag <= half; lag++) {
    let equal = 0;
    for (let i = half; i < tokens.length; i++) if (tokens[i] === tokens[i - lag]) equal++;
    best = Math.max(best, equal);
  }
  return best / (tokens.length - half);
}
