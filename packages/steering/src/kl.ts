import { logSumExp } from "./entropy.ts";
import { SteeringError } from "./error.ts";
import type { Vector } from "./vector-math.ts";

/**
 * Kullback–Leibler divergence KL(P‖Q) of two rows of logits, in nats: how far Q is from P where P speaks.
 *
 * Computed from log-probabilities, so that it stays exact where probabilities underflow.
 *
 * @param p - logits of P, [vocabulary]; the steered row, when it is held against its unsteered twin
 * @param q - logits of Q, [vocabulary]
 * @returns ≥ 0; Infinity when P speaks a token that Q rules out
 * @throws SteeringError SHAPE_MISMATCH when the lengths differ, LOGITS_INVALID as `logSumExp`
 */
export function klDivergence(p: Vector, q: Vector): number {
  if (p.length !== q.length) {
    throw new SteeringError("SHAPE_MISMATCH", `logits over ${p.length} and ${q.length} tokens do not compare`, {
      width: p.length,
      otherWidth: q.length,
    });
  }
  const logSumP = logSumExp(p);
  const logSumQ = logSumExp(q);
  let divergence = 0;
  for (let i = 0; i < p.length; i++) {
    const logP = (p[i] as number) - logSumP;
    const probability = Math.exp(logP);
    if (probability > 0) divergence += probability * (logP - ((q[i] as number) - logSumQ));
  }
  // Equal rows may come out a rounding below 0.
  return Math.max(0, divergence);
}
