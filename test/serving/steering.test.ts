import { CompositionPolicy, Mode, Pooling } from "@persona-mesh/protocol";
import { dot } from "@persona-mesh/steering";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect } from "../support/failure.ts";
import { personaName, type TestPersona } from "../support/personas.ts";
import { unitDirection } from "../support/random.ts";
import { ask, fingerprint } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { bitsOf, floatsOf, vectorTensor } from "../support/tensor.ts";

// One vector in every way in which a persona can wear it.
const VECTOR = { seed: 1, layers: [2, 3], alpha: 0.5 } as const;
const PERSONAS: readonly TestPersona[] = [
  { ...VECTOR, name: "all" },
  { ...VECTOR, name: "generated", positions: "GENERATED" },
  { ...VECTOR, name: "prompt", positions: "PROMPT" },
  { ...VECTOR, name: "renorm", mode: "ADD_RENORM" },
];

let stage: Stage;

beforeAll(async () => {
  stage = await openStage({ slots: 4, chunkTokens: 16 }, PERSONAS);
});

afterAll(() => stage.mesh.close());

async function reply(name: string, gain?: number) {
  const as = name === "" ? "" : personaName("acme", name);
  const request = ask("Where is my parcel, please? It was due last week.", {
    as,
    ...(gain === undefined ? {} : { gain }),
  });
  const whole = await stage.client.generateText(request);
  return { ...fingerprint(whole), projections: whole.tokens.map(({ projections }) => bitsOf(projections)) };
}

describe("positions", () => {
  test("GENERATED leaves the prompt alone: the first token is the unsteered one, to the bit", async () => {
    const [plain, generated] = [await reply(""), await reply("generated")];
    expect([generated.ids[0], generated.logProbs[0], generated.entropies[0]]).toEqual([
      plain.ids[0],
      plain.logProbs[0],
      plain.entropies[0],
    ]);
    expect(generated.entropies[1]).not.toBe(plain.entropies[1]);
  });

  test("PROMPT acts on the prompt as ALL does, and on nothing after it", async () => {
    const [plain, all, prompt] = [await reply(""), await reply("all"), await reply("prompt")];
    expect(prompt.entropies[0]).toBe(all.entropies[0]);
    expect(prompt.logProbs[0]).toBe(all.logProbs[0]);
    expect(prompt.entropies[0]).not.toBe(plain.entropies[0]);
    // From the same first token on.
    expect(prompt.entropies[1]).not.toBe(all.entropies[1]);
  });
});

describe("projections", () => {
  test("are measured before the injection: the first steered layer sees what an unsteered row sees", async () => {
    const [silent, all] = [await reply("all", 0), await reply("all")];
    expect(all.projections[0]?.[0]).toBe(silent.projections[0]?.[0]);
    expect(all.projections[0]?.[1]).not.toBe(silent.projections[0]?.[1]);
  });

  test("are the residual along the direction, in reference norms", async () => {
    const { model, referenceNorms } = stage.served;
    const layers = [1, 4];
    const directions = layers.map((layer) => unitDirection(50 + layer, model.hiddenSize));
    const value = {
      terms: [
        {
          alphaHundredths: 30,
          modelChecksum: model.modelChecksum,
          directions: layers.map((layer, index) => ({
            layer,
            direction: vectorTensor(directions[index] as Float32Array),
            referenceNorm: referenceNorms[layer] as number,
          })),
        },
      ],
    };
    const request = ask("hello", { persona: { selector: { case: "inline", value }, gain: 0 }, maxTokens: 1 });
    const { tokens } = await stage.service.generateText(request);
    const samples = [{ prompt: request.prompt as object }];
    const [captured] = await collect(stage.service.captureActivations({ samples, pooling: Pooling.LAST_PROMPT_TOKEN }));
    const residuals = floatsOf(captured?.pooled);
    for (const [index, layer] of layers.entries()) {
      const residual = residuals.subarray(layer * model.hiddenSize, (layer + 1) * model.hiddenSize);
      const along = dot(residual, directions[index] as Float32Array) / (referenceNorms[layer] as number);
      expect(tokens[0]?.projections[index]).toBeCloseTo(along, 5);
    }
  });

  test("at gain 0 every mode and position writes the unsteered reply, to the bit, and measures", async () => {
    const { projections: none, ...plain } = await reply("");
    expect(none.flat()).toEqual([]);
    const silent = await Promise.all(PERSONAS.map(({ name }) => reply(name, 0)));
    for (const { projections, ...rest } of silent) {
      expect(rest).toEqual(plain);
      expect(projections).toEqual(silent[0]?.projections);
      expect(new Set(projections.flat()).size).toBeGreaterThan(plain.ids.length);
    }
  });

  test.each([
    ["ADD", Mode.ADD],
    ["ADD_RENORM", Mode.ADD_RENORM],
  ])("%s moves the residual along its row, further at a higher gain", async (_, mode) => {
    const { model, referenceNorms } = stage.served;
    const direction = vectorTensor(unitDirection(77, model.hiddenSize));
    // The same direction twice: the later layer sees what the earlier one added.
    const directions = [2, 3].map((layer) => ({ layer, direction, referenceNorm: referenceNorms[layer] as number }));
    const atSecondLayer = async (alphaHundredths: number, gain = 1) => {
      const value = { terms: [{ alphaHundredths, modelChecksum: model.modelChecksum, directions }], mode };
      const persona = { selector: { case: "inline", value }, gain } as const;
      const { tokens } = await stage.service.generateText(ask("hello", { persona, maxTokens: 1 }));
      return tokens[0]?.projections[1] as number;
    };
    const still = await atSecondLayer(50, 0);
    const half = await atSecondLayer(50, 0.5);
    expect(still).toBeLessThan(half);
    expect(half).toBeLessThan(await atSecondLayer(50));
    // A row has the sign of its alpha: so has the axis that is measured along.
    expect(await atSecondLayer(-50, 0)).toBe(-still);
    expect(await atSecondLayer(-50)).toBeGreaterThan(-still);
  });
});

test("ADD, ADD_RENORM and no steering are three different things", async () => {
  const replies = await Promise.all(["", "all", "renorm"].map((name) => reply(name)));
  expect(new Set(replies.map(({ entropies }) => entropies[0])).size).toBe(3);
});

test("a persona over its budget is scaled down where its policy says so, and says it", async () => {
  const { model, referenceNorms } = stage.served;
  const term = (layers: readonly number[]) => ({
    alphaHundredths: 80,
    modelChecksum: model.modelChecksum,
    directions: layers.map((layer) => ({
      layer,
      direction: vectorTensor(unitDirection(layer, model.hiddenSize)),
      referenceNorm: referenceNorms[layer] as number,
    })),
  });
  const wear = (policy: CompositionPolicy) => {
    const value = { terms: [term([1, 2, 3, 4])], policy };
    return stage.service.generateText(ask("hello", { persona: { selector: { case: "inline", value } }, maxTokens: 1 }));
  };
  const { started } = await wear(CompositionPolicy.SCALE);
  expect(started.persona?.outcome).toBe("SCALED");
  const total = (started.persona?.doses ?? []).reduce((sum, { dose }) => sum + dose, 0);
  // Twice the cap, over all layers.
  expect(total).toBeCloseTo(1.6, 3);
  expect(started.persona?.effectiveAlphaHundredths).toBe(40);
  for (const policy of [CompositionPolicy.REJECT, CompositionPolicy.ACCEPT, CompositionPolicy.UNSPECIFIED]) {
    await expect(wear(policy)).rejects.toMatchObject({ reason: "DOSE_OVER_BUDGET" });
  }
});
