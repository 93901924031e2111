import type { MessageInitShape } from "@bufbuild/protobuf";
import { create, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import type { GenerateInput, InferenceClient } from "@persona-mesh/client";
import { GenerateRequestSchema, InferenceService, type PersonaSelectorSchema, Pooling } from "@persona-mesh/protocol";
import { ClientError, methodPath, STATUS_DETAILS_KEY } from "@persona-mesh/service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { personaName, writeTenant } from "../support/personas.ts";
import { uniform, unitDirection } from "../support/random.ts";
import { rawCall } from "../support/raw-grpc.ts";
import { ask, fingerprint, textPrompt, tokensPrompt } from "../support/requests.ts";
import { askServedModel, type ServedModel } from "../support/served-model.ts";
import { vectorTensor } from "../support/tensor.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";
import { until } from "../support/until.ts";

/** Of another tenant than the caller's. */
const SECRET = personaName("globex", "secret");

let mesh: TestWorker;
let client: InferenceClient;
let service: InferenceClient;
let served: ServedModel;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 2 });
  client = await mesh.client();
  service = await mesh.client({ roles: ["service"] });
  served = await askServedModel(service);
});

afterAll(() => mesh.close());

describe("prompts", () => {
  test("a prompt that leaves no room in the context is refused with the numbers; one that leaves one token is not", async () => {
    const { contextTokens } = served.model;
    const ids = (count: number) => tokensPrompt(new Array(count).fill(5));
    const failure = await failureOf(client.generateText({ prompt: ids(contextTokens) }));
    expect(failure).toMatchObject({
      code: status.INVALID_ARGUMENT,
      reason: "PROMPT_TOO_LONG",
      metadata: { tokens: String(contextTokens), contextTokens: String(contextTokens) },
    });
    const reply = await client.generateText({ prompt: ids(contextTokens - 1), ignoreEos: true });
    expect(reply.tokens).toHaveLength(1);
  });

  test("a prompt far longer than any context is refused before it is tokenized whole", async () => {
    const text = "x ".repeat(1_500_000);
    const chat = { input: { case: "chat" as const, value: { messages: [{ role: "user", content: text }] } } };
    const continuations = [{ input: { case: "text" as const, value: text } }];
    const samples = [{ prompt: textPrompt("x"), response: text }];
    const calls = [
      client.generateText({ prompt: textPrompt(text) }),
      client.generateText({ prompt: chat }),
      client.score({ prompt: textPrompt("x"), continuations }),
      collect(service.captureActivations({ samples, pooling: Pooling.RESPONSE_MEAN })),
    ];
    const failures = await Promise.all(calls.map(failureOf));
    // Its bytes are counted, not its tokens: counting those holds up every stream of every tenant for seconds.
    for (const failure of failures) {
      expect(failure).toMatchObject({ reason: "PROMPT_TOO_LONG", metadata: { bytes: "3000000" } });
    }
  });

  test("a message over the size limit is refused", async () => {
    const failure = await failureOf(client.generateText({ prompt: textPrompt("x".repeat(5 << 20)) }));
    expect(failure).toMatchObject({ code: status.RESOURCE_EXHAUSTED, reason: "MESSAGE_TOO_LARGE" });
  });

  test.each<[string, GenerateInput["prompt"]]>([
    ["no prompt at all", undefined],
    ["a prompt without input", {}],
    ["empty text", textPrompt("")],
    ["no messages", { input: { case: "chat", value: { messages: [] } } }],
    ["no token ids", tokensPrompt([])],
  ])("%s: PROMPT_EMPTY", async (_, prompt) => {
    const request = prompt === undefined ? {} : { prompt };
    const failure = await failureOf(client.generateText(request));
    expect(failure).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "PROMPT_EMPTY" });
    expect(
      (await failureOf(client.score({ ...request, continuations: [], tokenSets: [{ name: "a", ids: [5] }] }))).reason,
    ).toBe("PROMPT_EMPTY");
    const samples = [{ ...request, response: "yes" }];
    const capture = service.captureActivations({ samples, pooling: Pooling.RESPONSE_MEAN });
    expect((await failureOf(collect(capture))).reason).toBe("PROMPT_EMPTY");
  });

  test("token ids out of range name the first wrong one, in prompts, continuations and sets", async () => {
    const { vocabularySize } = served.model;
    const outside = [5, vocabularySize, 4_294_967_295];
    const generate = await failureOf(client.generateText({ prompt: tokensPrompt(outside) }));
    expect(generate).toMatchObject({
      code: status.INVALID_ARGUMENT,
      reason: "TOKEN_ID_OUT_OF_RANGE",
      fieldViolations: [{ field: "prompt.token_ids.ids[1]" }],
    });
    const prompt = tokensPrompt([5]);
    const continuations = [{ input: { case: "tokenIds" as const, value: { ids: outside } } }];
    expect(await failureOf(client.score({ prompt, continuations }))).toMatchObject({
      reason: "TOKEN_ID_OUT_OF_RANGE",
      fieldViolations: [{ field: "continuations[0].token_ids.ids[1]" }],
    });
    expect(await failureOf(client.score({ prompt, tokenSets: [{ name: "a", ids: outside }] }))).toMatchObject({
      reason: "TOKEN_ID_OUT_OF_RANGE",
      fieldViolations: [{ field: "token_sets[0].ids[1]" }],
    });
    // The last one that there is.
    await client.generateText({ prompt: tokensPrompt([vocabularySize - 1]), maxTokens: 1 });
  });

  test("a user who writes the model's control tokens writes characters", async () => {
    const { controlTokens } = mesh.running.worker.text.tokenizer;
    expect(controlTokens.size).toBeGreaterThan(1);
    const text = [...controlTokens.keys()].join(" and ");
    const continuations = [{ input: { case: "text" as const, value: text } }];
    const { continuations: scored } = await client.score({ prompt: textPrompt("hello"), continuations });
    const control = new Set(controlTokens.values());
    expect(scored[0]?.tokenIds.filter((id) => control.has(id))).toEqual([]);
  });

  test("a role that no chat has is refused", async () => {
    const messages = [{ role: "wizard", content: "hello" }];
    const role = await failureOf(client.generateText({ prompt: { input: { case: "chat", value: { messages } } } }));
    expect(role).toMatchObject({
      reason: "INVALID_ARGUMENT",
      fieldViolations: [{ field: "prompt.chat.messages[0].role" }],
    });
  });
});

describe("fields", () => {
  test("every wrong field of a request is named at once", async () => {
    const failure = await failureOf(
      client.generateText(
        ask("hello", {
          sampling: { temperature: Number.NaN, topP: 0, minP: 2 },
          maxTokens: 0,
          stop: ["fine", "", "x".repeat(65)],
          topLogProbs: 21,
        }),
      ),
    );
    expect(failure).toMatchObject({ code: status.INVALID_ARGUMENT, reason: "INVALID_ARGUMENT" });
    expect(failure.fieldViolations.map(({ field }) => field).sort()).toEqual([
      "max_tokens",
      "sampling.min_p",
      "sampling.temperature",
      "sampling.top_p",
      "stop[1]",
      "stop[2]",
      "top_log_probs",
    ]);
  });

  test.each([Number.NaN, -0.01, 1.01, Number.POSITIVE_INFINITY])("gain %d is refused", async (gain) => {
    const failure = await failureOf(client.generateText(ask("hello", { gain })));
    expect(failure).toMatchObject({
      reason: "INVALID_ARGUMENT",
      fieldViolations: [{ field: "persona.gain" }],
    });
  });
});

describe("personas", () => {
  test("another tenant's persona gives, byte for byte, the answer for one that does not exist", async () => {
    const token = await mesh.token();
    // One id for all: it is the only part of an answer that may differ.
    const metadata = { authorization: `Bearer ${token}`, "x-request-id": "same" };
    const answer = async (name: string) => {
      const request = create(GenerateRequestSchema, ask("hello", { as: name }));
      const path = methodPath(InferenceService.method.generate);
      const { status: ended } = await rawCall(mesh.address, {
        path,
        bytes: toBinary(GenerateRequestSchema, request),
        metadata,
      });
      const { date: _date, ...headers } = ended.metadata.toHttp2Headers() as Record<string, unknown>;
      const details = ended.metadata.get(STATUS_DETAILS_KEY)[0];
      return { code: ended.code, message: ended.details, headers, details };
    };
    // Of one name, before anybody has it and after another tenant has: nothing can tell.
    const before = await answer(SECRET);
    expect(before.code).toBe(status.NOT_FOUND);
    expect(before.details).toBeInstanceOf(Buffer);
    await writeTenant(mesh.personasDir, "globex", served, [{ name: "secret", seed: 1, layers: [2] }]);
    const owner = await mesh.client({ tenant: "globex" });
    await until(async () => (await collect(owner.listLoadedPersonas())).length === 1, "globex has its persona");
    expect(await answer(SECRET)).toEqual(before);

    for (const name of [
      SECRET,
      personaName("acme", "secret"),
      personaName("acme", "unknown"),
      "secret",
      "../globex/secret",
      "",
    ]) {
      const persona = { selector: { case: "name", value: name } } as const;
      expect(await failureOf(client.generateText(ask("hello", { persona })))).toMatchObject({
        code: status.NOT_FOUND,
        reason: "PERSONA_NOT_FOUND",
      });
    }
    const reply = await owner.generateText(ask("hello", { as: SECRET, maxTokens: 1 }));
    expect(reply.started.persona?.name).toBe(SECRET);
  });

  test("a tenant lists its own personas only", async () => {
    expect(await collect(client.listLoadedPersonas())).toEqual([]);
  });
});

describe("inline vectors", () => {
  type Term = NonNullable<Extract<MessageInitShape<typeof PersonaSelectorSchema>["selector"], { case: "inline" }>>;

  /** A fit inline persona, with what the test changes of its only term or direction. */
  function inline(
    term: Record<string, unknown> = {},
    direction: Record<string, unknown> = {},
    persona: Record<string, unknown> = {},
  ): GenerateInput {
    const { model, referenceNorms } = served;
    const value = {
      terms: [
        {
          alphaHundredths: 30,
          modelChecksum: model.modelChecksum,
          directions: [
            {
              layer: 2,
              direction: vectorTensor(unitDirection(3, model.hiddenSize)),
              referenceNorm: referenceNorms[2] as number,
              ...direction,
            },
          ],
          ...term,
        },
      ],
      ...persona,
    };
    const selector = { case: "inline", value } as Term;
    return ask("hello", { maxTokens: 2, persona: { selector } });
  }

  const withValue = (index: number, value: number) => {
    const vector = unitDirection(3, served.model.hiddenSize);
    vector[index] = value;
    return vectorTensor(vector);
  };

  test("a fit one acts, and its proof has no name", async () => {
    const reply = await service.generateText(inline());
    expect(reply.started.persona).toMatchObject({ name: "", effectiveAlphaHundredths: 30, versionDigests: [] });
    const unsteered = await service.generateText(ask("hello", { maxTokens: 2 }));
    expect(fingerprint(reply).logProbs).not.toEqual(fingerprint(unsteered).logProbs);
  });

  test("they are for services: anybody else is denied", async () => {
    for (const roles of [["operator"], ["admin"]] as const) {
      const caller = await mesh.client({ roles });
      expect(await failureOf(caller.generateText(inline()))).toMatchObject({
        code: status.PERMISSION_DENIED,
        reason: "PERMISSION_DENIED",
      });
    }
  });

  test.each<[string, string, () => GenerateInput]>([
    ["NaN", "VECTOR_NOT_FINITE", () => inline({}, { direction: withValue(0, Number.NaN) })],
    ["infinity", "VECTOR_NOT_FINITE", () => inline({}, { direction: withValue(9, Number.NEGATIVE_INFINITY) })],
    ["too narrow", "VECTOR_WIDTH_MISMATCH", () => inline({}, { direction: vectorTensor(unitDirection(3, 16)) })],
    [
      "too wide",
      "VECTOR_WIDTH_MISMATCH",
      () => inline({}, { direction: vectorTensor(unitDirection(3, served.model.hiddenSize + 1)) }),
    ],
    ["not of length 1", "VECTOR_FORMAT", () => inline({}, { direction: withValue(0, 3) })],
    ["no direction", "VECTOR_FORMAT", () => inline({}, { direction: undefined })],
    [
      "bytes that do not fit the shape",
      "VECTOR_FORMAT",
      () => inline({}, { direction: vectorTensor(unitDirection(3, 16), [served.model.hiddenSize]) }),
    ],
    [
      "a matrix",
      "VECTOR_FORMAT",
      () => inline({}, { direction: vectorTensor(unitDirection(3, served.model.hiddenSize), [1, 192]) }),
    ],
    ["no data type", "VECTOR_FORMAT", () => inline({}, { direction: { ...withValue(0, 0), dataType: 0 } })],
    ["a reference norm of 0", "VECTOR_FORMAT", () => inline({}, { referenceNorm: 0 })],
    ["a reference norm of NaN", "VECTOR_FORMAT", () => inline({}, { referenceNorm: Number.NaN })],
    ["a layer that the model has not", "LAYER_OUT_OF_RANGE", () => inline({}, { layer: served.model.layers })],
    ["alpha over the hard cap", "ALPHA_OVER_CAP", () => inline({ alphaHundredths: 81 })],
    ["negative alpha over the hard cap", "ALPHA_OVER_CAP", () => inline({ alphaHundredths: -81 })],
    ["no terms", "INVALID_ARGUMENT", () => inline({}, {}, { terms: [] })],
    ["a mode that is not known", "INVALID_ARGUMENT", () => inline({}, {}, { mode: 99 })],
  ])("%s: %s", async (_, reason, request) => {
    const failure = await failureOf(service.generateText(request()));
    expect(failure).toMatchObject({ code: status.INVALID_ARGUMENT, reason });
    expect((await failureOf(service.score({ ...scoreOf(request()) }))).reason).toBe(reason);
  });

  test("vectors of another model: MODEL_MISMATCH with both checksums", async () => {
    const other = "0".repeat(64);
    expect(await failureOf(service.generateText(inline({ modelChecksum: other })))).toMatchObject({
      code: status.FAILED_PRECONDITION,
      reason: "MODEL_MISMATCH",
      metadata: { vectorModel: other, servedModel: served.model.modelChecksum },
    });
  });

  test("a layer named twice in one term", async () => {
    const direction = {
      layer: 2,
      direction: vectorTensor(unitDirection(3, served.model.hiddenSize)),
      referenceNorm: 1,
    };
    const failure = await failureOf(service.generateText(inline({ directions: [direction, direction] })));
    expect(failure.reason).toBe("LAYER_OUT_OF_RANGE");
  });

  test("steering that leaves the range of float32 ends its own request only, and leaves nothing in its slot", async () => {
    const reference = fingerprint(await client.generateText(ask("hello", { maxTokens: 8 })));
    const axis = new Float32Array(served.model.hiddenSize);
    axis[0] = 1;
    const huge = (layer: number) => ({ layer, direction: vectorTensor(axis), referenceNorm: 3e38 });
    // Each row is finite; their sum is not.
    const request = inline({ alphaHundredths: 80, directions: [huge(0), huge(1)] });
    const neighbour = client.generateText(ask("hello", { maxTokens: 200 }));
    const failures = await Promise.all([0, 1, 2].map(() => failureOf(service.generateText(request))));
    for (const failure of failures) {
      expect(failure).toMatchObject({
        code: status.FAILED_PRECONDITION,
        reason: "STEERING_OVERFLOW",
        metadata: { alpha: "0.8", layers: "0,1" },
      });
    }
    expect(await failureOf(service.score(scoreOf(request)))).toMatchObject({ reason: "STEERING_OVERFLOW" });
    expect(fingerprint(await neighbour).logProbs.slice(0, 8)).toEqual(reference.logProbs);
    const after = await Promise.all([0, 1].map(() => client.generateText(ask("hello", { maxTokens: 8 }))));
    for (const reply of after) expect(fingerprint(reply)).toEqual(reference);
  });

  function scoreOf({ prompt, persona }: GenerateInput) {
    return { prompt: prompt as object, persona: persona as object, tokenSets: [{ name: "a", ids: [5] }] };
  }
});

describe("malformed messages", () => {
  const send = async (bytes: Uint8Array, method: keyof typeof InferenceService.method = "generate") => {
    const authorization = `Bearer ${await mesh.token({ roles: ["service"] })}`;
    const path = methodPath(InferenceService.method[method]);
    return (await rawCall(mesh.address, { path, bytes, metadata: { authorization } })).status;
  };
  const reasonOf = (ended: Awaited<ReturnType<typeof send>>) =>
    ClientError.from(Object.assign(new Error(), ended)).reason;

  test.each<[string, Uint8Array]>([
    ["a length beyond the end", Uint8Array.of(0x0a, 0x7f, 0x01)],
    ["half a varint", Uint8Array.of(0x30, 0xff)],
    ["a varint of eleven bytes", Uint8Array.of(0x30, ...new Array(10).fill(0xff), 0x01)],
    ["field number 0", Uint8Array.of(0x02, 0x00)],
    ["a group that never ends", Uint8Array.of(0x0b)],
    ["a prompt that is no message", Uint8Array.of(0x0a, 0x02, 0x0a, 0x7f)],
    ["text that is no UTF-8", Uint8Array.of(0x0a, 0x04, 0x0a, 0x02, 0xc3, 0x28)],
    ["a fixed64 of two bytes", Uint8Array.of(0x1a, 0x03, 0x29, 0x01, 0x02)],
  ])("%s: MESSAGE_MALFORMED", async (_, bytes) => {
    const ended = await send(bytes);
    expect([ended.code, reasonOf(ended)]).toEqual([status.INVALID_ARGUMENT, "MESSAGE_MALFORMED"]);
  });

  test("any prefix of a message and any flipped bit gets an answer that blames the caller, or a reply", async () => {
    const message = toBinary(
      GenerateRequestSchema,
      create(GenerateRequestSchema, ask("hi", { maxTokens: 1, stop: ["a"], topLogProbs: 2 })),
    );
    const next = uniform(11);
    const flipped = Array.from({ length: 40 }, () => {
      const bytes = message.slice();
      const at = Math.floor(next() * bytes.length);
      bytes[at] = (bytes[at] as number) ^ (1 << Math.floor(next() * 8));
      return bytes;
    });
    const prefixes = Array.from({ length: message.length >> 1 }, (_, half) => message.subarray(0, 2 * half));
    const blames = [status.OK, status.INVALID_ARGUMENT, status.NOT_FOUND, status.PERMISSION_DENIED];
    const answers = await Promise.all([...flipped, ...prefixes].map((bytes) => send(bytes)));
    expect(answers.filter(({ code }) => !blames.includes(code))).toEqual([]);
    expect(answers.filter((ended) => reasonOf(ended) === "MESSAGE_MALFORMED").length).toBeGreaterThan(10);
  });

  test("random bytes on every method get an answer that blames the caller, or a reply", async () => {
    const next = uniform(12);
    const methods = Object.keys(InferenceService.method) as (keyof typeof InferenceService.method)[];
    const answers = await Promise.all(
      methods.flatMap((method) =>
        Array.from({ length: 20 }, () => {
          const bytes = Uint8Array.from({ length: Math.floor(next() * 40) }, () => Math.floor(next() * 256));
          return send(bytes, method);
        }),
      ),
    );
    const defects = answers.filter(({ code }) => code === status.INTERNAL || code === status.UNKNOWN);
    expect(defects).toEqual([]);
  });

  test("a method that is not there is denied like one without a permission", async () => {
    const authorization = `Bearer ${await mesh.token({ roles: ["admin"] })}`;
    const path = "/persona.inference.v1.InferenceService/Shutdown";
    const { status: ended } = await rawCall(mesh.address, {
      path,
      bytes: new Uint8Array(),
      metadata: { authorization },
    });
    expect([status.PERMISSION_DENIED, status.UNIMPLEMENTED]).toContain(ended.code);
  });
});

test("after all of this nothing is held and nothing was a defect", async () => {
  await until(() => mesh.running.worker.engine.figures().running === 0, "all slots are free");
  expect(mesh.running.worker.engine.figures()).toMatchObject({ running: 0, waiting: 0 });
  expect(mesh.running.worker.table.figures()).toMatchObject({ rowsHeld: 0, heldPersonas: 0 });
  expect(mesh.log().filter(({ level }) => level === "error" || level === "fatal")).toEqual([]);
});
