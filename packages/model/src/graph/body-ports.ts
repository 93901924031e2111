/** Names of the inputs and outputs of a body graph. */
export const BODY = {
  /** int32[batch, sequence] */
  tokens: "tokens",
  /** int32[batch]: positions a row has after this run, minus one. */
  lastPosition: "last_position",
  /** int32[1]: the largest row length after this run. */
  totalLength: "total_length",
  /** int32[selected]: which of the batch × sequence positions, flattened, the heads are to read. */
  select: "select",
  /** float32[selected, hidden]: after the final norm. */
  hidden: "hidden",
  /** float32[batch, sequence, layers, hidden]: after each block and its steering, before the final norm. */
  residuals: "residuals",
  /** float32[rope_positions, rotaryDim / 2] of one rotary table. */
  ropeCos: (rope: number) => `rope_cos.${rope}`,
  ropeSin: (rope: number) => `rope_sin.${rope}`,
  /** [batch, kvHeads, cacheTokens, headDim] of the activations' type; the present output must be the same buffer. */
  pastKey: (layer: number) => `past_key.${layer}`,
  pastValue: (layer: number) => `past_value.${layer}`,
  presentKey: (layer: number) => `present_key.${layer}`,
  presentValue: (layer: number) => `present_value.${layer}`,
} as const;
