import type { Precision } from "../graph/index.ts";
import { CheckFailure, type CheckProgress, CheckSkipped, type Finding } from "./check.ts";
import { isSame, maxDifference, PROBE_SLOTS, type Probe, spreadOf } from "./probe.ts";

const SEED = 5;

/** Positions of the sequences that are read whole. */
const TOKENS = 24;

/** Sequences of the first check. */
const SEQUENCES = 3;

/** Between prefills that are cut differently, over the spread of the logits. */
const CHUNK_TOLERANCE = 1e-4;

/**
 * The same where products round their inputs to eight bits: a difference in the last bit may round to the next step, which
 * is 1/127 of a block's largest value.
 */
const ROUNDED_CHUNK_TOLERANCE = 0.05;

/** Logits are finite and tell tokens apart, for pseudo-random text and for the ends of the vocabulary. */
export async function checkLogits(probe: Probe, bos: number | null, progress: CheckProgress): Promise<Finding> {
  const { vocabulary } = probe.runtime.spec;
  let least = Number.POSITIVE_INFINITY;
  for (let sequence = 0; sequence < SEQUENCES; sequence++) {
    const drawn = probe.tokens(SEED + sequence, TOKENS);
    const tokens = [bos ?? 0, 0, vocabulary - 1, ...drawn].slice(0, drawn.length);
    const { hidden } = await probe.chunk(0, tokens, [0, tokens.length], probe.unsteered(), false);
    const logits = await probe.logits(hidden);
    for (const position of tokens.keys()) {
      const row = logits.subarray(position * vocabulary, (position + 1) * vocabulary);
      const wrong = row.findIndex((value) => !Number.isFinite(value));
      if (wrong >= 0) {
        const figures = { sequence, position, token: wrong };
        throw new CheckFailure(`the logit of token ${wrong} at position ${position} is ${row[wrong]}`, figures);
      }
      least = Math.min(least, spreadOf(row));
    }
    progress(sequence + 1, SEQUENCES);
  }
  if (least === 0) throw new CheckFailure("all tokens have the same logit");
  const positions = SEQUENCES * TOKENS;
  return { message: `finite at ${positions} positions, spread at least ${least.toPrecision(3)}`, figures: { least } };
}

/** A prompt that is read in chunks, as beside running streams, is read as in one go. */
export async function checkChunks(probe: Probe, precision: Precision, progress: CheckProgress): Promise<Finding> {
  const tokens = probe.tokens(SEED, TOKENS);
  const last = tokens.length;
  // One of the pieces is a single token, as in a decode step.
  const cuts = [...new Set([0, last >> 2, (last >> 2) + 1, last >> 1, last])].sort((a, b) => a - b);
  const pieces = cuts.slice(1).map((end, i) => [cuts[i] as number, end] as const);
  if (pieces.length < 2) throw new CheckSkipped(`a context of ${probe.runtime.contextTokens} tokens has no two chunks`);
  const { vocabulary } = probe.runtime.spec;
  const whole = await probe.logits((await probe.chunk(0, tokens, [0, last], probe.unsteered(), false)).hidden);
  let worst = 0;
  for (const [index, [start, end]] of pieces.entries()) {
    const piece = await probe.logits((await probe.chunk(1, tokens, [start, end], probe.unsteered(), false)).hidden);
    for (let position = start; position < end; position++) {
      const expected = whole.subarray(position * vocabulary, (position + 1) * vocabulary);
      const at = (position - start) * vocabulary;
      const error = maxDifference(piece.subarray(at, at + vocabulary), expected) / (spreadOf(expected) || 1);
      if (!(error <= toleranceOf(precision))) {
        throw new CheckFailure(
          `read in chunks, the logits at position ${position} are ${error.toPrecision(3)} of their spread away from ` +
            "those of one go",
          { position, relativeError: error },
        );
      }
      worst = Math.max(worst, error);
    }
    progress(index + 1, pieces.length);
  }
  const figures = { chunks: pieces.length, largestRelativeError: worst };
  return {
    message: `${pieces.length} chunks as one go, within ${worst.toPrecision(2)} of the logits' spread`,
    figures,
  };
}

/** Unsteered rows have the same bits alone and in batches of any size, beside steered ones; so do a batch's logits. */
export async function checkBatch(probe: Probe, { linear }: Precision, progress: CheckProgress): Promise<Finding> {
  const rows = Array.from({ length: PROBE_SLOTS }, (_, slot) => {
    const tokens = probe.tokens(SEED + slot, 3 + 2 * slot);
    const position = tokens.length - 1;
    const isSteered = slot % 2 === 1;
    const steering = isSteered ? probe.steeredAt(probe.steerable) : probe.unsteered();
    return { tokens, token: tokens[position] as number, position, steering, isSteered };
  });
  const hint =
    linear.kind === "nbits" && linear.block !== 32
      ? `; blocks of ${linear.block} do that on some processors, import with blocks of 32`
      : "";
  const alone: Float32Array[] = [];
  for (const [slot, { tokens, position }] of rows.entries()) {
    if (position > 0) await probe.chunk(slot, tokens, [0, position], probe.unsteered(), false);
    const { hidden } = await probe.chunk(slot, tokens, [position, position + 1], probe.unsteered(), false);
    alone.push(hidden);
    progress(slot + 1, 2 * rows.length);
  }
  // Every size, since kernels take the rows that are left over from their blocks in another way.
  for (let size = 1; size <= rows.length; size++) {
    const together = await probe.step(rows.slice(0, size));
    const logits = await probe.logits(together);
    for (const [slot, { isSteered }] of rows.slice(0, size).entries()) {
      const row = together.subarray(slot * probe.hidden, (slot + 1) * probe.hidden);
      const difference = maxDifference(row, alone[slot] as Float32Array);
      const place = `row ${slot} of a batch of ${size}`;
      if (isSteered && difference === 0) throw new CheckFailure(`${place} is steered, and as it is unsteered`);
      if (!isSteered && difference !== 0) {
        throw new CheckFailure(
          `${place} is unsteered, and ${difference.toPrecision(2)} away from the same alone${hint}`,
          {
            size,
            slot,
            difference,
          },
        );
      }
      const { vocabulary } = probe.runtime.spec;
      if (!isSame(await probe.logits(row), logits.subarray(slot * vocabulary, (slot + 1) * vocabulary))) {
        throw new CheckFailure(`the logits of ${place} are others than those of the same state alone${hint}`, {
          size,
          slot,
        });
      }
    }
    progress(rows.length + size, 2 * rows.length);
  }
  const message = `unsteered rows are the same to the bit, alone and beside steered ones, in batches of 1 to ${rows.length}`;
  return { message, figures: { largestBatch: rows.length } };
}

/** Of logits of states that differ in their last bits, over the spread of the logits. */
export function toleranceOf({ linear, head }: Precision): number {
  return linear.kind === "nbits" || head.kind === "nbits" ? ROUNDED_CHUNK_TOLERANCE : CHUNK_TOLERANCE;
}
