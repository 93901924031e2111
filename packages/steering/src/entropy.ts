import { SteeringError } from "./error.ts";
import type { Vector } from "./vector-math.ts";

/**
 * log Σ exp(logits), without overflow for any finite logits.
 *
 * @param logits - [vocabulary], −Inf for tokens that are ruled out
 * @throws SteeringError LOGITS_INVALID when there are none, one is NaN or +Inf, or all are −Inf
 */
export function logSumExp(logits: Vector): number {
  const largest = requireLargest(logits);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - largest);
  return largest + Math.log(sum);
}

/**
 * Shannon entropy of softmax(logits), in nats: 0 to log(vocabulary).
 *
 * @param logits - [vocabulary], −Inf for tokens that are ruled out
 * @throws SteeringError LOGITS_INVALID, as {@link logSumExp}
 */
export function entropyOfLogits(logits: Vector): number {
  const largest = requireLargest(logits);
  // With x measured from the largest logit: H = log Σeˣ − Σ x eˣ / Σeˣ.
  let sum = 0;
  let weighted = 0;
  for (let i = 0; i < logits.length; i++) {
    const x = (logits[i] as number) - largest;
    const weight = Math.exp(x);
    sum += weight;
    // −Inf · 0 is NaN; a token that is ruled out adds nothing.
    if (weight > 0) weighted += x * weight;
  }
  return Math.max(0, Math.log(sum) - weighted / sum);
}

/**
 * Shannon entropy of a distribution, in nats.
 *
 * @param probabilities - each ≥ 0, summing to 1 within 1e-3
 * @throws SteeringError LOGITS_INVALID when they are no distribution
 */
export function entropyOfProbabilities(probabilities: Vector): number {
  let sum = 0;
  let entropy = 0;
  for (let i = 0; i < probabilities.length; i++) {
    const p = probabilities[i] as number;
    if (!(p >= 0)) throw new SteeringError("LOGITS_INVALID", `probability ${p} of token ${i}`, { token: i });
    sum += p;
    if (p > 0) entropy -= p * Math.log(p);
  }
  if (!(Math.abs(sum - 1) <= 1e-3)) {
    throw new SteeringError("LOGITS_INVALID", `probabilities sum to ${sum}, not to 1`, { sum });
  }
  return Math.max(0, entropy);
}

function requireLargest(logits: Vector): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number;
    if (Number.isNaN(logit)) throw new SteeringError("LOGITS_INVALID", `logit of token ${i} is NaN`, { token: i });
    if (logit > largest) largest = logit;
  }
  if (!Number.isFinite(largest)) {
    throw new SteeringError("LOGITS_INVALID", `the largest of ${logits.length} logits is ${largest}`);
  }
  return largest;
}
