/** How a matrix is stored and multiplied. */
export type MatrixFormat =
  | { readonly kind: "float32" }
  /** For accelerators; the CPU has no kernels for it. */
  | { readonly kind: "bfloat16" }
  /** Integers of `bits` with one float32 scale per `block` elements of a row. */
  | { readonly kind: "nbits"; readonly bits: 4 | 8; readonly block: 32 | 128 };

/** Formats of the parts of a model. Norms, biases, residual stream and steering are float32 in all of them. */
export interface Precision {
  readonly name: PrecisionName;
  /** Projections of attention and MLP. */
  readonly linear: MatrixFormat;
  readonly embedding: MatrixFormat;
  /** A tied head in the embedding's format shares its bytes. */
  readonly head: MatrixFormat;
}

export const PRECISION_NAMES = ["float32", "int8", "int4", "bfloat16"] as const;

export type PrecisionName = (typeof PRECISION_NAMES)[number];

export const BLOCK_SIZES = [32, 128] as const;

/** Formats that the embedding and the head of an integer model may have. */
export const VOCABULARY_FORMATS = ["float32", "int8", "int4"] as const;

export type VocabularyFormat = (typeof VOCABULARY_FORMATS)[number];

/** Choices within `int8` and `int4`; `float32` and `bfloat16` have none. */
export interface PrecisionOptions {
  /**
   * Elements of a row that share a scale; activations are rounded in the same blocks. Small blocks are closer to
   * float32, large ones faster: of normal weights they lose 0.53 % (32) or 0.65 % (128) in eight bits, 8.1 % or 9.7 % in
   * four, and a product takes 1.5 to 2 times as long in blocks of 32 as in blocks of 128.
   *
   * On processors with AVX-512 VNNI the kernels of blocks of 128 sum a single row in another order than several: a
   * request alone and the same in a batch then differ in their last bits. Those of 32 give the same bits everywhere.
   *
   * @default 32
   */
  readonly block?: (typeof BLOCK_SIZES)[number];
  /**
   * Format of the embedding. It is gathered from, not multiplied: rows are read back as float32.
   *
   * @default "int8"
   */
  readonly embedding?: VocabularyFormat;
  /**
   * Format of the output head. Every logit reads it, so that its rounding shows more than a layer's.
   *
   * @default "int8"
   */
  readonly head?: VocabularyFormat;
}

export const FLOAT32: Precision = {
  name: "float32",
  linear: { kind: "float32" },
  embedding: { kind: "float32" },
  head: { kind: "float32" },
};

const BFLOAT16: Precision = {
  name: "bfloat16",
  linear: { kind: "bfloat16" },
  embedding: { kind: "bfloat16" },
  head: { kind: "bfloat16" },
};

/** What a request computes must not depend on the requests beside it, on any processor. */
const DEFAULT_BLOCK = 32;

/**
 * The formats that a precision stands for.
 *
 * @throws RangeError for a name, block or format that is not listed here, or options where there is nothing to choose
 */
export function precisionOf(name: PrecisionName, options: PrecisionOptions = {}): Precision {
  if (!PRECISION_NAMES.includes(name)) {
    throw new RangeError(`there is no precision "${name}"; choose ${PRECISION_NAMES.join(", ")}`);
  }
  if (name === "float32" || name === "bfloat16") {
    const [option] = Object.entries(options).find(([, value]) => value !== undefined) ?? [];
    if (option !== undefined) throw new RangeError(`precision ${name} has no choice of ${option}; int8 and int4 have`);
    return name === "float32" ? FLOAT32 : BFLOAT16;
  }
  if (options.block !== undefined && !BLOCK_SIZES.includes(options.block)) {
    throw new RangeError(`blocks of ${options.block} are not supported; choose ${BLOCK_SIZES.join(" or ")}`);
  }
  const nbits = (bits: 4 | 8) => ({ kind: "nbits", bits, block: options.block ?? DEFAULT_BLOCK }) as const;
  const vocabulary = (part: string, format: VocabularyFormat): MatrixFormat => {
    if (!VOCABULARY_FORMATS.includes(format)) {
      throw new RangeError(`the ${part} cannot be ${format}; choose ${VOCABULARY_FORMATS.join(", ")}`);
    }
    return format === "float32" ? { kind: format } : nbits(format === "int8" ? 8 : 4);
  };
  return {
    name,
    linear: nbits(name === "int8" ? 8 : 4),
    embedding: vocabulary("embedding", options.embedding ?? "int8"),
    head: vocabulary("head", options.head ?? "int8"),
  };
}

/** The execution provider that a precision needs; the CPU, which runs the others, has no kernels for bfloat16. */
export function providerOf({ linear, embedding, head }: Precision): "cpu" | "cuda" {
  return [linear, embedding, head].some(({ kind }) => kind === "bfloat16") ? "cuda" : "cpu";
}
