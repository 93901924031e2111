/** Most stop strings of one request, and characters (code points) of one: what they make a stream hold back stays small. */
export const MAX_STOPS = 8;
export const MAX_STOP_CHARACTERS = 64;

export type Scanned =
  /** Text that can be shown: no stop string begins in it. */
  | { readonly kind: "open"; readonly text: string }
  /** The last text before the stop string `stop`. */
  | { readonly kind: "stopped"; readonly text: string; readonly stop: string };

interface Node {
  readonly next: Map<number, Node>;
  /** UTF-16 units from the root: how much text could still become a stop string. */
  readonly depth: number;
  /** The node of the longest proper suffix that begins a stop string. */
  fallback: Node | undefined;
  /** The longest stop string that ends here. */
  match: string | undefined;
}

/**
 * Finds the first stop string in a stream of text and lets only the text before it out.
 *
 * The first is the one that is complete first; of several that end at the same character, the longest. So the result
 * does not depend on how the text is cut into pieces. Text that could be the beginning of a stop string is held back:
 * at most one unit less than the longest stop string. Each unit costs a constant amortised time, however many
 * stop strings there are (Aho and Corasick, CACM 1975).
 */
export class StopScanner {
  readonly #root: Node;
  #state: Node;
  /** The last `#state.depth` units of the text, or "" once stopped. */
  #held = "";
  #stop: string | undefined;

  /** @throws RangeError for empty, too long or too many stop strings, and for half a surrogate pair */
  constructor(stops: readonly string[]) {
    if (stops.length > MAX_STOPS) throw new RangeError(`${stops.length} stop strings, at most ${MAX_STOPS}`);
    stops.forEach((stop, index) => {
      const characters = [...stop].length;
      if (characters < 1 || characters > MAX_STOP_CHARACTERS) {
        throw new RangeError(
          `stop string ${index} has ${characters} characters, 1 to ${MAX_STOP_CHARACTERS} are allowed`,
        );
      }
      if (!stop.isWellFormed()) throw new RangeError(`stop string ${index} has half a surrogate pair`);
    });
    this.#root = buildAutomaton(stops);
    this.#state = this.#root;
  }

  /** The next piece of the stream. After a stop every piece is dropped. */
  push(piece: string): Scanned {
    if (this.#stop !== undefined) return { kind: "stopped", text: "", stop: this.#stop };
    const text = this.#held + piece;
    for (let at = this.#held.length; at < text.length; at++) {
      this.#state = step(this.#state, text.charCodeAt(at));
      const stop = this.#state.match;
      if (stop === undefined) continue;
      this.#stop = stop;
      this.#held = "";
      return { kind: "stopped", text: text.slice(0, at + 1 - stop.length), stop };
    }
    const settled = text.length - this.#state.depth;
    this.#held = text.slice(settled);
    return { kind: "open", text: text.slice(0, settled) };
  }

  /** The stream is over: what was held back is text after all. */
  flush(): string {
    const held = this.#held;
    this.#held = "";
    this.#state = this.#root;
    return held;
  }
}

function step(from: Node, unit: number): Node {
  for (let node = from; ; node = node.fallback) {
    const next = node.next.get(unit);
    if (next !== undefined) return next;
    if (node.fallback === undefined) return node;
  }
}

function buildAutomaton(stops: readonly string[]): Node {
  const root: Node = { next: new Map(), depth: 0, fallback: undefined, match: undefined };
  for (const stop of stops) {
    let node = root;
    for (let i = 0; i < stop.length; i++) {
      const unit = stop.charCodeAt(i);
      let child = node.next.get(unit);
      if (child === undefined) {
        child = { next: new Map(), depth: i + 1, fallback: root, match: undefined };
        node.next.set(unit, child);
      }
      node = child;
    }
    node.match = stop;
  }
  // Breadth first: a fallback is shallower than its node, so it is finished when it is needed.
  const open = [...root.next.values()];
  for (let node = open.shift(); node !== undefined; node = open.shift()) {
    for (const [unit, child] of node.next) {
      child.fallback = step(node.fallback ?? root, unit);
      child.match ??= child.fallback.match;
      open.push(child);
    }
  }
  return root;
}
