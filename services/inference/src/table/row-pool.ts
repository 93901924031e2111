/** Row indices 1 … rows − 1, each either free or given out. Row 0 is never given out: it is the row of no steering. */
export class RowPool {
  /** Rows that can be given out. */
  readonly capacity: number;
  /** A stack: the lowest rows are on top at first. */
  readonly #free: number[];

  /** @param rows - size of the table, row 0 included */
  constructor(rows: number) {
    this.capacity = rows - 1;
    this.#free = Array.from({ length: this.capacity }, (_, i) => this.capacity - i);
  }

  get free(): number {
    return this.#free.length;
  }

  /** @throws RangeError when fewer are free: the caller makes room first */
  take(count: number): number[] {
    if (count > this.#free.length) throw new RangeError(`${count} rows wanted, ${this.#free.length} free`);
    return count === 0 ? [] : this.#free.splice(-count).reverse();
  }

  give(rows: readonly number[]): void {
    for (let i = rows.length - 1; i >= 0; i--) this.#free.push(rows[i] as number);
  }
}
