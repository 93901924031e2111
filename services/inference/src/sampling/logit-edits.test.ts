import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type LogitEditParameters, LogitEdits, NO_EDITS, RULED_OUT } from "./logit-edits.ts";

const LOGITS = Float32Array.of(2, -1, 0.5, 3, -2, 1);

function edited(
  parameters: Partial<LogitEditParameters>,
  reply: readonly number[] = [],
  prompt: readonly number[] = [],
) {
  const edits = new LogitEdits({ ...NO_EDITS, ...parameters }, prompt);
  for (const id of reply) edits.take(id);
  return { active: edits.active, logits: [...edits.applied(LOGITS)] };
}

describe("LogitEdits", () => {
  it("leaves everything as it is where nothing is asked for", () => {
    expect(edited({}, [1, 1, 2], [3])).toEqual({ active: false, logits: [...LOGITS] });
  });

  it("divides positive logits and multiplies negative ones of tokens in prompt or reply, once each", () => {
    const { active, logits } = edited({ repetitionPenalty: 2 }, [1, 1, 3], [0, 0]);
    expect(active).toBe(true);
    expect(logits).toEqual([1, -2, 0.5, 1.5, -2, 1]);
  });

  it("takes presence once and frequency as often as a token is in the reply, and the prompt does not count", () => {
    expect(edited({ presencePenalty: 0.5 }, [3, 3, 3], [0]).logits).toEqual([2, -1, 0.5, 2.5, -2, 1]);
    expect(edited({ frequencyPenalty: 0.5 }, [3, 3, 1], [0]).logits).toEqual([2, -1.5, 0.5, 2, -2, 1]);
    expect(edited({ frequencyPenalty: -1 }, [5]).logits[5]).toBe(2);
  });

  it("is not active before the reply has a token that could be penalised", () => {
    expect(edited({ presencePenalty: 1 }).active).toBe(false);
    expect(edited({ presencePenalty: 1 }, [0]).active).toBe(true);
  });

  it("adds biases first, and rules a token out at the lowest", () => {
    const bias = new Map([
      [0, -4],
      [3, RULED_OUT],
    ]);
    // Token 0 falls to −2 before the penalty multiplies it.
    expect(edited({ bias, repetitionPenalty: 2 }, [0]).logits).toEqual([-4, -1, 0.5, Number.NEGATIVE_INFINITY, -2, 1]);
  });

  it("rules end tokens out until the reply is long enough", () => {
    const ends = { endTokens: new Set([3, 5]), minTokens: 2 };
    expect(edited(ends, [0]).logits).toEqual([2, -1, 0.5, Number.NEGATIVE_INFINITY, -2, Number.NEGATIVE_INFINITY]);
    expect(edited(ends, [0, 1])).toEqual({ active: false, logits: [...LOGITS] });
  });

  it("passes over ids that the model does not have", () => {
    expect(edited({ bias: new Map([[99, 5]]) }).logits).toEqual([...LOGITS]);
  });

  it("gives for every history what the definition gives that goes through it token by token", () => {
    const token = fc.integer({ min: 0, max: 5 });
    const penalty = fc.double({ min: -2, max: 2, noNaN: true });
    fc.assert(
      fc.property(
        fc.array(token, { maxLength: 20 }),
        fc.array(token, { maxLength: 20 }),
        fc.record({
          repetitionPenalty: fc.double({ min: 0.1, max: 10, noNaN: true }),
          presencePenalty: penalty,
          frequencyPenalty: penalty,
        }),
        (prompt, reply, parameters) => {
          const { logits } = edited(parameters, reply, prompt);
          const { repetitionPenalty, presencePenalty, frequencyPenalty } = parameters;
          const expected = Array.from(LOGITS, (logit, id) => {
            const times = reply.filter((other) => other === id).length;
            const isSeen = times > 0 || prompt.includes(id);
            const scaled = isSeen ? logit * (logit > 0 ? 1 / repetitionPenalty : repetitionPenalty) : logit;
            return scaled - (times > 0 ? presencePenalty : 0) - times * frequencyPenalty;
          });
          // float32 storage against float64: a few roundings of numbers up to 80.
          expected.forEach((value, id) => {
            expect(logits[id]).toBeCloseTo(value, 4);
          });
        },
      ),
    );
  });
});
