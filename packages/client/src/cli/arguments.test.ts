import { InvalidArgumentError } from "commander";
import { describe, expect, it } from "vitest";
import {
  decimal,
  duration,
  integer,
  layerList,
  logitBias,
  repeated,
  repeatedInteger,
  seed,
  wordList,
} from "./arguments.ts";

const refuses = (parse: (value: string) => unknown, values: string[]) => {
  for (const value of values) expect(() => parse(value), JSON.stringify(value)).toThrow(InvalidArgumentError);
};

describe("option values", () => {
  it("takes whole numbers within bounds", () => {
    expect([integer(1, 10)("1"), integer(1, 10)("10"), integer(-5, 5)("-5")]).toEqual([1, 10, -5]);
    refuses(integer(1, 10), ["0", "11", "1.5", "1e1", "0x5", "", " ", "NaN", "3 4"]);
  });

  it("takes decimals within bounds", () => {
    expect([decimal(0, 1)("0"), decimal(0, 1)("0.25"), decimal(0, 1)("1e-3")]).toEqual([0, 0.25, 0.001]);
    refuses(decimal(0, 1), ["-0.1", "1.01", "", " ", "NaN", "Infinity", "x"]);
  });

  it("takes 64-bit seeds without losing a digit", () => {
    expect(seed("18446744073709551615")).toBe(2n ** 64n - 1n);
    expect(seed("0xFF")).toBe(255n);
    refuses(seed, ["18446744073709551616", "-1", "1.0", "", "0x", "seven"]);
  });

  it("takes biases by token, and collects them as it does other values", () => {
    expect(logitBias("7=1.5", logitBias("1234=-100", undefined))).toEqual([
      { id: 1234, bias: -100 },
      { id: 7, bias: 1.5 },
    ]);
    refuses((value) => logitBias(value, undefined), ["7", "7=", "=1", "7=101", "-7=1", "7=1e2", "7=1=1", ""]);
    expect(repeatedInteger(0, 9)("3", repeatedInteger(0, 9)("9", undefined))).toEqual([9, 3]);
    refuses((value) => repeatedInteger(0, 9)(value, undefined), ["10", "-1", ""]);
  });

  it("takes durations in every unit, seconds without one", () => {
    expect(["500ms", "30s", "5m", "1.5h", "2d", "45"].map(duration)).toEqual([
      500, 30_000, 300_000, 5_400_000, 172_800_000, 45_000,
    ]);
    refuses(duration, ["", "0", "0s", "-5s", "5 weeks", "s", "30d", "1h30m"]);
  });

  it("takes layers as lists and ranges, sorted, each once", () => {
    expect(layerList("4,2-3,2")).toEqual([2, 3, 4]);
    refuses(layerList, ["", "a", "3-2", "1,,2", "-1", "1-", "0-99999", "1024"]);
  });

  it("takes some of the given words", () => {
    const parse = wordList(["viewer", "operator"]);
    expect(parse("operator, viewer,operator")).toEqual(["operator", "viewer"]);
    refuses(parse, ["", "root", "viewer,,operator", "Viewer"]);
  });

  it("collects repeated options in order", () => {
    expect(repeated("b", repeated("a", undefined))).toEqual(["a", "b"]);
  });
});
