/** How a matrix is stored and multiplied. */
export type MatrixFormat =
  | { readonly kind: "float32" }
  /** For accelerators; the CPU has no kernels for it. */
  | { readonly kind: "bfloat16" }
  /** Integers of `bits` with one float32 scale per `block` elements of a row. */
  | { readonly kind: "nbits"; readonly bits: 4 | 8; readonly block: 32 | 128 };

/** Formats of the parts of a model. Norms, biases, residual stream and steering are float32 in all of them. */
export interface Precision {
  readonly name: "float32" | "int8" | "int4" | "bfloat16";
  /** Projections of attention and MLP. */
  readonly linear: MatrixFormat;
  readonly embedding: MatrixFormat;
  /** A tied head in the embedding's format shares its bytes. */
  readonly head: MatrixFormat;
}

export const FLOAT32: Precision = {
  name: "float32",
  linear: { kind: "float32" },
  embedding: { kind: "float32" },
  head: { kind: "float32" },
};
