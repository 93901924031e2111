import { type ErrorDetails, SteeringError, type SteeringReason } from "../error.ts";

/** Refuse a foreign file, or to write one. */
export function refuse(reason: SteeringReason, problem: string, details: ErrorDetails = {}): never {
  throw new SteeringError(reason, `control vector: ${problem}`, details);
}

/** Text of a file as it may stand in a message: short, on one line. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
