interface Node {
  readonly next: Map<number, Node>;
  /** A word ends here. */
  word: boolean;
}

/** A set of words, matched against text one UTF-16 unit at a time. */
export class StringTrie {
  readonly #root: Node = { next: new Map(), word: false };

  constructor(words: Iterable<string>) {
    for (const word of words) this.#add(word);
  }

  /** Length of the longest word that starts at `at`, or 0. */
  longestAt(text: string, at: number): number {
    let node: Node | undefined = this.#root;
    let longest = 0;
    for (let i = at; i < text.length; i++) {
      node = node.next.get(text.charCodeAt(i));
      if (node === undefined) break;
      if (node.word) longest = i + 1 - at;
    }
    return longest;
  }

  /** Whether a word starts at `at`, or would if the right text followed `end`. */
  couldStartAt(text: string, at: number, end = text.length): boolean {
    let node: Node | undefined = this.#root;
    for (let i = at; i < end; i++) {
      node = node.next.get(text.charCodeAt(i));
      if (node === undefined) return false;
      if (node.word) return true;
    }
    return at < end;
  }

  #add(word: string): void {
    let node = this.#root;
    for (let i = 0; i < word.length; i++) {
      const unit = word.charCodeAt(i);
      let next = node.next.get(unit);
      if (next === undefined) {
        next = { next: new Map(), word: false };
        node.next.set(unit, next);
      }
      node = next;
    }
    if (word !== "") node.word = true;
  }
}
