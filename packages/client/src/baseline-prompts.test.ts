import { describe, expect, it } from "vitest";
import { parsePrompts } from "./baseline-prompts.ts";

describe("parsePrompts", () => {
  it("reads one object a line, with or without a system line", () => {
    const content = '{"prompt":"Where is it?"}\r\n\n{"prompt":"Why?","system":"Be brief."}\n';
    expect(parsePrompts(content, "p.jsonl")).toEqual([
      { prompt: "Where is it?" },
      { prompt: "Why?", system: "Be brief." },
    ]);
  });

  it.each([
    ['{"prompt":"a"}\n{"prompt":', "p.jsonl, line 2 is not JSON"],
    ['{"prompt":""}', "p.jsonl, line 1, prompt: "],
    ['{"prompt":"a","persona":"b"}', "p.jsonl, line 1, the whole: "],
    ['{"text":"a"}', "p.jsonl, line 1, prompt: "],
    ["\n", "p.jsonl has 0 prompts"],
    ['{"prompt":"a"}\n'.repeat(10_001), "p.jsonl has 10001 prompts"],
  ])("refuses %.40j", (content, message) => {
    expect(() => parsePrompts(content, "p.jsonl")).toThrow(
      expect.objectContaining({ reason: "FILE_INVALID", message: expect.stringContaining(message) }),
    );
  });
});
