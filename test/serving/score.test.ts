import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { failureOf } from "../support/failure.ts";
import { personaName, type TestPersona } from "../support/personas.ts";
import { ask, textPrompt, tokensPrompt } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { bitsOf } from "../support/tensor.ts";

// One vector, worn in every way. Chunks are small: prompt and continuation take many.
const VECTOR = { seed: 1, layers: [2, 3], alpha: 0.5 } as const;
const PERSONAS: readonly TestPersona[] = [
  { ...VECTOR, name: "all" },
  { ...VECTOR, name: "generated", positions: "GENERATED" },
  { ...VECTOR, name: "prompt", positions: "PROMPT" },
  { ...VECTOR, name: "renorm", mode: "ADD_RENORM" },
];

/**
 * Between a reply, decoded token by token, and its score, read in chunks: float32 sums in another order. Measured on the
 * starter: below 1e-5.
 */
const TOLERANCE = 1e-4;

const PROMPT = "Where is my parcel, please? It was due last week.";

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ slots: 4, chunkTokens: 16 }, PERSONAS);
});

afterAll(() => stage.mesh.close());

const { prompt } = ask(PROMPT);
const idsOf = (ids: readonly number[]) => ({ input: { case: "tokenIds" as const, value: { ids: [...ids] } } });
const textOf = (value: string) => ({ input: { case: "text" as const, value } });
const wearing = (name: string) => ({ selector: { case: "name" as const, value: personaName("acme", name) } });
const UNSTEERED = { selector: { case: "unsteered" as const, value: {} } };

/** Every vocabulary entry but some. */
const allBut = (...left: number[]) =>
  Array.from({ length: stage.served.model.vocabularySize }, (_, id) => id).filter((id) => !left.includes(id));

function largestDifference(a: readonly number[] = [], b: readonly number[] = []): number {
  expect(a).toHaveLength(b.length);
  return Math.max(...a.map((value, index) => Math.abs(value - (b[index] as number))));
}

describe("a reply's score", () => {
  test.each(["", ...PERSONAS.map(({ name }) => name)])(
    "worn as %j it is what Generate said of each token",
    async (name) => {
      const as = name === "" ? "" : personaName("acme", name);
      const { tokens } = await stage.client.generateText(ask(PROMPT, { as, maxTokens: 50 }));
      const ids = tokens.map(({ id }) => id);
      const persona = name === "" ? UNSTEERED : wearing(name);
      const { continuations, persona: proof } = await stage.client.score({
        prompt: prompt as object,
        persona,
        continuations: [idsOf(ids)],
      });
      const [scored] = continuations;
      const side = name === "" ? scored?.unsteered : scored?.steered;
      expect(scored?.tokenIds).toEqual(ids);
      expect(
        largestDifference(
          side?.logProbs,
          tokens.map(({ logProb }) => logProb),
        ),
      ).toBeLessThan(TOLERANCE);
      expect(
        largestDifference(
          side?.entropies,
          tokens.map(({ entropy }) => entropy),
        ),
      ).toBeLessThan(TOLERANCE);
      expect(proof?.name).toBe(name === "" ? undefined : as);
      expect(scored?.steered === undefined).toBe(name === "");
    },
  );
});

describe("both sides of one call", () => {
  test("the unsteered side is that of a call without a persona, to the bit; the steered one differs", async () => {
    const continuations = [textOf("Your parcel is on its way."), textOf("No.")];
    const plain = await stage.client.score({ prompt: prompt as object, persona: UNSTEERED, continuations });
    const both = await stage.client.score({ prompt: prompt as object, persona: wearing("all"), continuations });
    for (const [index, { unsteered, steered, tokenIds }] of both.continuations.entries()) {
      const alone = plain.continuations[index];
      expect(tokenIds).toEqual(alone?.tokenIds);
      expect(bitsOf(unsteered?.logProbs ?? [])).toEqual(bitsOf(alone?.unsteered?.logProbs ?? []));
      expect(steered?.logProbs).toHaveLength(tokenIds.length);
      expect(largestDifference(steered?.logProbs, unsteered?.logProbs)).toBeGreaterThan(100 * TOLERANCE);
    }
  });

  test("GENERATED says the first token as unsteered, to the bit; PROMPT and ALL agree on it", async () => {
    const first = async (name: string) => {
      const request = { prompt: prompt as object, persona: wearing(name), continuations: [textOf("Your parcel")] };
      const [scored] = (await stage.client.score(request)).continuations;
      return { steered: bitsOf(scored?.steered?.logProbs ?? []), unsteered: bitsOf(scored?.unsteered?.logProbs ?? []) };
    };
    const [all, generated, promptOnly] = [await first("all"), await first("generated"), await first("prompt")];
    expect(generated.steered[0]).toBe(generated.unsteered[0]);
    expect(generated.steered[1]).not.toBe(generated.unsteered[1]);
    expect(promptOnly.steered[0]).toBe(all.steered[0]);
    expect(promptOnly.steered[0]).not.toBe(all.unsteered[0]);
    expect(promptOnly.steered[1]).not.toBe(all.steered[1]);
  });

  test("continuations do not touch one another, and text scores as its tokens do", async () => {
    const words = ["Your parcel is late.", "We are sorry.", "x", "Your parcel is late."];
    const together = await stage.client.score({
      prompt: prompt as object,
      persona: wearing("all"),
      continuations: words.map(textOf),
    });
    for (const { tokenIds, steered } of together.continuations) {
      const alone = await stage.client.score({
        prompt: prompt as object,
        persona: wearing("all"),
        continuations: [idsOf(tokenIds)],
      });
      expect(bitsOf(alone.continuations[0]?.steered?.logProbs ?? [])).toEqual(bitsOf(steered?.logProbs ?? []));
    }
    expect(together.continuations[3]).toEqual(together.continuations[0]);
  });
});

describe("masses", () => {
  test("of sets that cover the vocabulary sum to 1, steered and unsteered; of one token they are its probability", async () => {
    const ids = [10, 20, 30];
    const { tokenSets, continuations } = await stage.client.score({
      prompt: prompt as object,
      persona: wearing("all"),
      continuations: ids.map((id) => idsOf([id])),
      tokenSets: [
        { name: "few", ids },
        { name: "rest", ids: allBut(...ids) },
        { name: "one", ids: [10] },
        { name: "one, twice", ids: [10, 10] },
        { name: "nothing", ids: [] },
      ],
    });
    expect(tokenSets.map(({ name }) => name)).toEqual(["few", "rest", "one", "one, twice", "nothing"]);
    for (const side of ["unsteered", "steered"] as const) {
      const [few, rest, one, twice, nothing] = tokenSets.map((set) => set[side] as number);
      expect((few as number) + (rest as number)).toBeCloseTo(1, 9);
      expect(few).toBeGreaterThan(0);
      expect(nothing).toBe(0);
      expect(twice).toBe(one);
      const probabilities = continuations.map((scored) => Math.exp(scored[side]?.logProbs[0] as number));
      expect(one).toBeCloseTo(probabilities[0] as number, 6);
      expect(few).toBeCloseTo(
        probabilities.reduce((sum, p) => sum + p, 0),
        6,
      );
    }
    expect(tokenSets[0]?.steered).not.toBe(tokenSets[0]?.unsteered);
  });

  test("alone they need no continuation, and are the same", async () => {
    const sets = [{ name: "few", ids: [10, 20, 30] }];
    const alone = await stage.client.score({ prompt: prompt as object, persona: UNSTEERED, tokenSets: sets });
    const beside = await stage.client.score({
      prompt: prompt as object,
      persona: UNSTEERED,
      tokenSets: sets,
      continuations: [textOf("Your parcel is on its way.")],
    });
    expect(alone.continuations).toEqual([]);
    expect(alone.tokenSets[0]?.steered).toBeUndefined();
    expect(alone.tokenSets[0]?.unsteered).toBeCloseTo(beside.tokenSets[0]?.unsteered as number, 9);
  });
});

describe("limits", () => {
  test("the last token of a continuation may lie just beyond the context: it is scored, not read", async () => {
    const { contextTokens } = stage.served.model;
    const full = tokensPrompt(new Array(contextTokens).fill(5));
    const { continuations } = await stage.client.score({ prompt: full, continuations: [idsOf([6])] });
    expect(continuations[0]?.unsteered?.logProbs).toHaveLength(1);
    const failure = await failureOf(stage.client.score({ prompt: full, continuations: [idsOf([6, 7])] }));
    expect(failure.reason).toBe("PROMPT_TOO_LONG");
  });

  test("every wrong field is named at once, and a set's name may have 128 characters", async () => {
    const named = (length: number) => ({ name: "😀".repeat(length), ids: [5] });
    const prompt = textPrompt("hello");
    const { tokenSets } = await stage.client.score({ prompt, tokenSets: [named(128)] });
    expect(tokenSets[0]?.name).toBe(named(128).name);
    const continuations = new Array(65).fill(textOf("a"));
    const wrong = stage.client.score({ prompt, continuations, tokenSets: [named(129)], persona: { gain: -1 } });
    const fields = (await failureOf(wrong)).fieldViolations.map(({ field }) => field);
    expect(fields.sort()).toEqual(["continuations", "persona.gain", "token_sets[0].name"]);
  });

  test.each([
    ["nothing to score", {}, "continuations"],
    ["65 continuations", { continuations: new Array(65).fill(textOf("a")) }, "continuations"],
    ["65 sets", { tokenSets: new Array(65).fill({ name: "a", ids: [5] }) }, "token_sets"],
    ["a set's name of 129 characters", { tokenSets: [{ name: "x".repeat(129), ids: [5] }] }, "token_sets[0].name"],
    ["65,537 ids", { tokenSets: [{ name: "a", ids: new Array(65_537).fill(5) }] }, "token_sets"],
    ["a gain over 1", { tokenSets: [{ name: "a", ids: [5] }], persona: { gain: 1.01 } }, "persona.gain"],
    ["an empty continuation", { continuations: [textOf("a"), textOf("")] }, "continuations[1]"],
    ["a continuation of nothing", { continuations: [{}] }, "continuations[0]"],
  ])("%s is refused", async (_, request, field) => {
    const failure = await failureOf(stage.client.score({ prompt: textPrompt("hello"), ...request }));
    expect(failure).toMatchObject({ reason: "INVALID_ARGUMENT", fieldViolations: [{ field }] });
  });
});
