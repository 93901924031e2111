import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { REPETITION_WINDOW, repetition, replyRepetition } from "./repetition.ts";
import { uniform } from "./testing/support.ts";

/** Tokens without structure: a skewed vocabulary as text has, where the commonest token is 8 % of all. */
function noise(length: number, seed: number): number[] {
  const next = uniform(seed);
  return Array.from({ length }, () => Math.floor(400 * next() ** 2));
}

const loop = (period: number, length: number) => Array.from({ length }, (_, i) => 1000 + (i % period));

describe("a window", () => {
  test("holding two copies of a loop of any period scores 1", () => {
    for (let length = 8; length <= 80; length++) {
      for (let period = 1; period <= length / 2; period++) expect(repetition(loop(period, length))).toBe(1);
    }
  });

  test("of unrelated tokens scores low, at any length from 32 on", () => {
    for (let seed = 0; seed < 60; seed++) {
      expect(repetition(noise(32 + 4 * seed, seed))).toBeLessThan(0.35);
    }
  });

  test("of 8,192 different tokens but for one phrase again and again, at no one lag, is counted exactly", () => {
    const tokens = Array.from({ length: 8192 }, (_, i) => 4_000_000_000 - i);
    const phrase = tokens.slice(100, 104);
    for (let i = 1; i <= 10; i++) tokens.splice(4200 + 7 * i * i, 4, ...phrase);
    // The best lag explains one copy, four tokens.
    expect(repetition(tokens)).toBe(10 / 4096);
    expect(() => repetition([...tokens, 1])).toThrow(RangeError);
  });

  test("of different tokens scores 0, and so does one too short to tell", () => {
    expect(repetition(Array.from({ length: 64 }, (_, i) => i))).toBe(0);
    expect(repetition([5, 5, 5, 5, 5, 5, 5])).toBe(0);
    expect(repetition([])).toBe(0);
  });

  test("sees a loop with one changing slot", () => {
    const likes = Array.from({ length: 16 }, (_, i) => [1, 2, 100 + i, 3]).flat();
    expect(repetition(likes)).toBe(0.75);
  });

  test("sees a loop that slips out of step, which no single lag explains", () => {
    // Ten tokens again and again, with 0, 3, 1, 4, 2, 0 … new ones between.
    const slipping = Array.from({ length: 8 }, (_, i) => [
      ...loop(10, 10),
      ...Array.from({ length: (3 * i) % 5 }, (__, j) => 100 * i + j),
    ]).flat();
    expect(repetition(slipping)).toBeGreaterThan(0.5);
    const half = slipping.length >> 1;
    const lags = Array.from({ length: half }, (_, i) => i + 1);
    const explained = lags.map(
      (lag) => slipping.slice(half).filter((token, i) => token === slipping[half + i - lag]).length,
    );
    expect(Math.max(...explained) / half).toBeLessThan(0.5);
  });

  test("stays within 0 and 1, and does not care what the tokens are called", () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 5 }), { maxLength: 80 }), (tokens) => {
        const value = repetition(tokens);
        expect(value).toBeGreaterThanOrEqual(0);
        expect(value).toBeLessThanOrEqual(1);
        expect(repetition(Uint32Array.from(tokens, (token) => 99_999 - token))).toBe(value);
      }),
    );
  });
});

describe("a reply", () => {
  test("that ends in a loop scores as the loop, however long it went well", () => {
    for (const before of [0, 100, 1000]) {
      expect(replyRepetition([...noise(before, 1), ...loop(7, REPETITION_WINDOW)])).toBe(1);
    }
  });

  test("that looped and found its way out still shows it", () => {
    expect(replyRepetition([...noise(100, 1), ...loop(7, 80), ...noise(100, 2)])).toBeGreaterThan(0.9);
  });

  test("that loops over more than a window shows it as a whole", () => {
    const paragraph = noise(150, 4);
    expect(replyRepetition([...paragraph, ...paragraph, ...paragraph])).toBe(1);
    expect(replyRepetition(noise(450, 4))).toBeLessThan(0.35);
  });

  test("can be looked at through another window", () => {
    const tokens = [...noise(40, 1), ...loop(2, 16), ...noise(40, 2)];
    expect(replyRepetition(tokens, 16)).toBe(1);
    expect(replyRepetition(tokens)).toBeLessThan(0.7);
    expect(() => replyRepetition(tokens, 7)).toThrow(RangeError);
  });

  test("may be long: the work grows with its length, not with the square", () => {
    expect(replyRepetition(noise(100_000, 1))).toBeLessThan(0.5);
  });
});
