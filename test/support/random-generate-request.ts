import type { Reason } from "@persona-mesh/service";
import { personaName } from "./personas.ts";
import { type AskOptions, ask, tokensPrompt } from "./requests.ts";

type Request = ReturnType<typeof ask>;

/** A request and how it has to end: with a reply, or refused for this reason, with exactly these wrong fields. */
export interface ExpectedRequest {
  readonly request: Request;
  readonly reason: Reason | "OK";
  readonly fields: readonly string[];
}

/** Changes of a request, and the fields that are wrong with them. */
type Variant = readonly [AskOptions, ...string[]];

const sampling = (values: NonNullable<AskOptions["sampling"]>, ...wrong: string[]): Variant => [
  { sampling: values },
  ...wrong.map((field) => `sampling.${field}`),
];
const biases = (...biases: (readonly [number, number])[]) => ({
  logitBias: biases.map(([id, bias]) => ({ id, bias })),
});

/** By what is changed, so that at most one variant of each is in a request. */
function variantsFor(vocabulary: number): Variant[][] {
  return [
    [
      sampling({ temperature: 0 }),
      sampling({ temperature: 1e-300 }),
      sampling({ temperature: 10 }),
      sampling({ temperature: -1 }, "temperature"),
      sampling({ temperature: Number.NaN }, "temperature"),
      sampling({ temperature: Number.POSITIVE_INFINITY }, "temperature"),
    ],
    [sampling({ topK: 1 }), sampling({ topK: 4_294_967_295 })],
    [sampling({ topP: 1e-300 }), sampling({ topP: 0 }, "top_p"), sampling({ topP: Number.NaN }, "top_p")],
    [sampling({ minP: 1 }), sampling({ minP: -1e-9 }, "min_p"), sampling({ minP: 1.5 }, "min_p")],
    [
      sampling({ repetitionPenalty: 0.001 }),
      sampling({ repetitionPenalty: 10 }),
      sampling({ repetitionPenalty: 0 }, "repetition_penalty"),
      sampling({ repetitionPenalty: 1e-300 }, "repetition_penalty"),
      sampling({ repetitionPenalty: Number.NEGATIVE_INFINITY }, "repetition_penalty"),
    ],
    [sampling({ presencePenalty: -2 }), sampling({ presencePenalty: 3 }, "presence_penalty")],
    [sampling({ frequencyPenalty: 2 }), sampling({ frequencyPenalty: Number.NaN }, "frequency_penalty")],
    [
      sampling(biases([vocabulary - 1, 100], [0, -100])),
      sampling(biases([vocabulary, 1]), "logit_bias[0].id"),
      sampling(biases([3, 1], [3, 1]), "logit_bias[1].id"),
      sampling(biases([3, 1], [4, -101], [5, Number.NaN]), "logit_bias[1].bias", "logit_bias[2].bias"),
      sampling(biases(...Array.from({ length: 1025 }, () => [3, 1] as const)), "logit_bias"),
    ],
    [
      [{ maxTokens: 2, minTokens: 2 }],
      [{ maxTokens: 0 }, "max_tokens"],
      [{ maxTokens: 1, minTokens: 2 }, "min_tokens"],
      [{ maxTokens: 0, minTokens: 1 }, "max_tokens", "min_tokens"],
    ],
    [[{ n: 2 }], [{ n: 0 }, "n"], [{ n: 17 }, "n"], [{ n: 4_294_967_295 }, "n"]],
    [[{ topLogProbs: 20 }], [{ topLogProbs: 21 }, "top_log_probs"]],
    [
      [{ stop: ["e", "x".repeat(64)] }],
      [{ stop: ["e", ""] }, "stop[1]"],
      [{ stop: ["x".repeat(65)] }, "stop[0]"],
      [{ stop: new Array(9).fill("e") }, "stop"],
    ],
    [
      [{ stopTokenIds: [0, 0, vocabulary - 1] }],
      [{ stopTokenIds: [0, vocabulary] }, "stop_token_ids[1]"],
      [{ stopTokenIds: new Array(65).fill(0) }, "stop_token_ids"],
    ],
    [[{ promptLogProbs: true }]],
    [[{ ignoreEos: false }]],
    [
      [{ gain: 0 }],
      [{ gain: -0.1 }, "persona.gain"],
      [{ gain: 1.01 }, "persona.gain"],
      [{ gain: Number.NaN }, "persona.gain"],
    ],
  ];
}

/** Prompts, by what they are refused for. */
function promptsFor(vocabulary: number): [AskOptions, ExpectedRequest["reason"]][] {
  return [
    [{ prompt: tokensPrompt([5, 90, 200]) }, "OK"],
    [{ prompt: tokensPrompt([]) }, "PROMPT_EMPTY"],
    [{ prompt: {} }, "PROMPT_EMPTY"],
    [{ prompt: tokensPrompt([5, vocabulary]) }, "TOKEN_ID_OUT_OF_RANGE"],
    [{ prompt: tokensPrompt(new Array(1000).fill(5)) }, "PROMPT_TOO_LONG"],
  ];
}

/** What is worn, by what it is refused for. @param own - a persona of the caller's tenant, which is acme */
function personasFor(own: string): [AskOptions["persona"], ExpectedRequest["reason"]][] {
  return [
    [{ selector: { case: "unsteered", value: {} } }, "OK"],
    [{ selector: { case: "name", value: own } }, "OK"],
    [{ selector: { case: "active", value: { follow: true } } }, "OK"],
    [{}, "OK"],
    [{ selector: { case: "name", value: personaName("globex", "loud") } }, "PERSONA_NOT_FOUND"],
    [{ selector: { case: "revision", value: `${own}/revisions/none` } }, "REVISION_NOT_SERVED"],
    [{ selector: { case: "inline", value: { sweep: true } } }, "PERMISSION_DENIED"],
  ];
}

/** What requests are made of; `below(n)` is a whole number from 0, below n. */
export class RandomGenerateRequests {
  readonly #below: (limit: number) => number;
  readonly #variants: Variant[][];
  readonly #prompts: [AskOptions, ExpectedRequest["reason"]][];
  readonly #personas: [AskOptions["persona"], ExpectedRequest["reason"]][];

  constructor(vocabulary: number, own: string, below: (limit: number) => number) {
    this.#below = below;
    this.#variants = variantsFor(vocabulary);
    this.#prompts = promptsFor(vocabulary);
    this.#personas = personasFor(own);
  }

  /** One to four changes of a request that is in order. Fields are checked first, then the prompt, then what is worn. */
  next(): ExpectedRequest {
    const changed = new Set(Array.from({ length: 1 + this.#below(4) }, () => this.#pick(this.#variants)));
    const variants = [...changed].map((of) => this.#pick(of));
    const [prompt, promptReason] = this.#below(4) > 0 ? this.#first(this.#prompts) : this.#pick(this.#prompts);
    const [persona, personaReason] = this.#pick(this.#personas);
    const { gain, sampling, ...changes } = merged(variants.map(([options]) => options));
    const request = ask("", {
      maxTokens: 1,
      ...prompt,
      ...changes,
      persona: { ...(persona as object), ...(gain === undefined ? {} : { gain }) },
      ...(sampling === undefined ? {} : { sampling }),
    });
    const fields = variants.flatMap(([, ...wrong]) => wrong);
    const reason = [fields.length > 0 ? "INVALID_ARGUMENT" : "OK", promptReason, personaReason] as const;
    return { request, reason: reason.find((each) => each !== "OK") ?? "OK", fields: fields.sort() };
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[this.#below(items.length)] as Item;
  }

  #first<Item>(items: readonly Item[]): Item {
    return items[0] as Item;
  }
}

function merged(options: readonly AskOptions[]): AskOptions {
  const all: AskOptions = Object.assign({}, ...options);
  const values = options.flatMap(({ sampling: each }) => (each === undefined ? [] : [each]));
  return values.length === 0 ? all : { ...all, sampling: Object.assign({}, ...values) };
}
