import type { Reply } from "@persona-mesh/client";

/** Whether two replies have the same token ids and, bit for bit, the same log-probabilities. */
export function sameBits(a: Reply, b: Reply): boolean {
  const bits = (reply: Reply) => new Uint32Array(Float32Array.from(reply.tokens, ({ logProb }) => logProb).buffer);
  const [left, right] = [bits(a), bits(b)];
  return (
    a.tokens.length === b.tokens.length &&
    a.tokens.every(({ id }, index) => id === b.tokens[index]?.id && left[index] === right[index])
  );
}
