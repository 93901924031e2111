/** Side of the square blocks: two blocks of float32 fit in the first-level cache, where whole columns would not. */
const BLOCK = 32;

/**
 * Transpose a matrix into columns of a wider one.
 *
 * @param source - float32[rows, columns], row-major
 * @param target - float32[columns, targetColumns], row-major; written at columns `at` to `at + rows`
 */
export function transposeInto(
  source: Float32Array,
  rows: number,
  columns: number,
  target: Float32Array,
  targetColumns: number,
  at: number,
): void {
  for (let rowBlock = 0; rowBlock < rows; rowBlock += BLOCK) {
    const rowEnd = Math.min(rowBlock + BLOCK, rows);
    for (let columnBlock = 0; columnBlock < columns; columnBlock += BLOCK) {
      const columnEnd = Math.min(columnBlock + BLOCK, columns);
      for (let column = columnBlock; column < columnEnd; column++) {
        const out = column * targetColumns + at;
        for (let row = rowBlock; row < rowEnd; row++) {
          target[out + row] = source[row * columns + column] as number;
        }
      }
    }
  }
}
