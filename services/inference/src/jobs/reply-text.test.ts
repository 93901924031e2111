import { expect, test } from "vitest";
import { fixture } from "../../../../packages/model/src/testing/tokenizer-fixture.ts";
import { ReplyText } from "./reply-text.ts";

const { tokenizer } = fixture("byte-level");

/** What is shown token by token, and after which token a stop string was complete. */
function shown(text: string, { stops = ["END"], minTokens = 0 } = {}) {
  const reply = new ReplyText({ tokenizer, stops, minTokens });
  const pieces: string[] = [];
  for (const [index, id] of tokenizer.encode(text).entries()) {
    const piece = reply.push(id);
    pieces.push(piece.text);
    if (piece.stopped) return { text: pieces.join("") + reply.rest(), stoppedAfter: index + 1 };
  }
  return { text: pieces.join("") + reply.rest(), stoppedAfter: undefined };
}

test("the text ends before a stop string, and what only began like one is text", () => {
  expect(shown("one END two").text).toBe("one ");
  expect(shown("one ENGINE")).toEqual({ text: "one ENGINE", stoppedAfter: undefined });
});

test("a stop string in the text of the first tokens does not count, one after them does", () => {
  const least = tokenizer.encode("one END two").length;
  const { text, stoppedAfter } = shown("one END two END three", { minTokens: least + 1 });
  expect(text).toBe("one END two ");
  expect(stoppedAfter).toBeGreaterThan(least);
});

test("the token that makes the least length may complete a stop string", () => {
  const whole = tokenizer.encode("one END").length;
  const stop = tokenizer.decode(tokenizer.encode("one END").slice(-1));
  expect(shown("one END", { stops: [stop], minTokens: whole }).stoppedAfter).toBe(whole);
  expect(shown("one END", { stops: [stop], minTokens: whole + 1 }).stoppedAfter).toBeUndefined();
});

test("a character that is not whole at the end is shown as one that is broken", () => {
  const reply = new ReplyText({ tokenizer, stops: [], minTokens: 5 });
  const [first] = tokenizer.encode("✓");
  expect(reply.push(first as number)).toEqual({ text: "", stopped: false });
  expect(reply.rest()).toBe("\uFFFD");
});
