import type { TokenState } from "../engine/engine-job.ts";
import type { Heads, TopState } from "../engine/heads.ts";
import { type LogitEdits, type Row, type SamplingParameters, sample, type TokenLogProb } from "../sampling/index.ts";

/** A token and what the model says of it, unmodified: nats at temperature 1, without edits and cuts. */
export interface ChosenToken {
  readonly id: number;
  readonly logProb: number;
  /** The most likely tokens, most likely first. */
  readonly alternatives: readonly TokenLogProb[];
}

export interface TokenChoice {
  readonly parameters: SamplingParameters;
  readonly edits: LogitEdits;
  /** Uniform in [0, 1). */
  readonly random: number;
  /** How many of the most likely tokens to report. */
  readonly alternatives: number;
}

/**
 * Draw the next token, exactly: from the most likely ones where they decide, else from all.
 *
 * @throws Error where the edits leave no token to draw
 */
export async function chooseToken(
  state: TokenState,
  { row }: TopState,
  heads: Heads,
  { parameters, edits, random, alternatives }: TokenChoice,
): Promise<ChosenToken> {
  const logits = async () => state.logits ?? (await heads.logits(state.hidden));
  if (edits.active) {
    const all = await logits();
    const { id } = drawn({ kind: "full", logits: edits.applied(all) }, parameters, random, 0);
    // Of the model's own distribution, not of the edited one.
    const logProbs = (of: number) => (all[of] as number) - row.logSumExp;
    const reported = Array.from(row.ids.subarray(0, alternatives), (of) => ({ id: of, logProb: logProbs(of) }));
    return { id, logProb: logProbs(id), alternatives: reported };
  }
  const chosen = sample(row, parameters, random, alternatives);
  if (chosen.kind === "token") return chosen;
  // The candidates did not hold enough of the mass: rare, and worth a second head for an exact answer.
  return drawn({ kind: "full", logits: await logits() }, parameters, random, alternatives);
}

function drawn(row: Row, parameters: SamplingParameters, random: number, alternatives: number): ChosenToken {
  const chosen = sample(row, parameters, random, alternatives);
  if (chosen.kind !== "token") throw new Error(`the sampler gave ${chosen.kind} for a row with every logit`);
  return chosen;
}
