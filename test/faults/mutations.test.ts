import { create, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata, type ServiceError, type StatusObject, status } from "@grpc/grpc-js";
import { GenerateRequestSchema, InferenceService } from "@persona-mesh/protocol";
import { ClientError, methodPath } from "@persona-mesh/service";
import { afterAll, beforeAll, expect, test } from "vitest";
import { personaName } from "../support/personas.ts";
import { uniform } from "../support/random.ts";
import { RandomGenerateRequests } from "../support/random-generate-request.ts";
import { ask, fingerprint, textPrompt, tokensPrompt } from "../support/requests.ts";
import { openStage, type Stage } from "../support/stage.ts";
import { until } from "../support/until.ts";

// 10,000 mutations of valid requests in all: of their fields, where it is known what has to come, and of their bytes.

const SEED = 20_261_123;
const OF_FIELDS = 7000;
const OF_BYTES = 3000;

/** Calls under way at once: more than there are slots, fewer than wait. */
const AT_ONCE = 16;

/** What bytes that nobody made on purpose may be answered with. Anything else is a defect: INTERNAL, UNKNOWN, UNAVAILABLE… */
const ALLOWED = new Set([
  status.OK,
  status.INVALID_ARGUMENT,
  status.NOT_FOUND,
  status.PERMISSION_DENIED,
  status.FAILED_PRECONDITION,
  status.RESOURCE_EXHAUSTED,
]);

const LOUD = personaName("acme", "loud");

let stage: Stage;
let raw: Client;
const metadata = new Metadata();

beforeAll(async () => {
  // A short context bounds what a mutated length can ask for.
  stage = await openStage({ slots: 8, context: 32, chunkTokens: 16 }, [{ name: "loud", seed: 1, layers: [2, 3] }]);
  const { mesh } = stage;
  raw = new Client(mesh.address, credentials.createInsecure());
  metadata.set("authorization", `Bearer ${await mesh.token()}`);
});
afterAll(async () => {
  raw.close();
  await stage.mesh.close();
});

test(`${OF_FIELDS} mutations of fields end as they have to, every wrong field named and no other (seed ${SEED})`, async () => {
  const { model } = stage.served;
  const below = integers(SEED);
  const requests = new RandomGenerateRequests(model.vocabularySize, LOUD, below);
  const ends = new Map<string, number>();
  await undisturbed(() =>
    concurrently(OF_FIELDS, async () => {
      const { request, reason, fields } = requests.next();
      const ended = await answer(toBinary(GenerateRequestSchema, create(GenerateRequestSchema, request)));
      const end = ended.code === status.OK ? undefined : ClientError.from(Object.assign(new Error(), ended));
      // The whole request, where it ended otherwise.
      const told = { reason: end?.reason ?? "OK", fields: fieldsOf(end).sort(), request };
      expect(told).toEqual({ reason, fields: reason === "INVALID_ARGUMENT" ? fields : told.fields, request });
      ends.set(reason, (ends.get(reason) ?? 0) + 1);
    }),
  );
  for (const reason of ["OK", "INVALID_ARGUMENT", "PROMPT_EMPTY", "PERSONA_NOT_FOUND", "PERMISSION_DENIED"]) {
    expect(ends.get(reason), reason).toBeGreaterThan(100);
  }
});

test(`${OF_BYTES} mutations of bytes get the right kind of status (seed ${SEED})`, async () => {
  const valid = [
    ask("hi", { as: LOUD, maxTokens: 1 }),
    ask("", { prompt: textPrompt("where is it"), maxTokens: 2, stop: ["x", "parcel"], topLogProbs: 3 }),
    ask("", { prompt: tokensPrompt([5, 90, 200]), maxTokens: 1, minTokens: 1, stopTokenIds: [7], n: 2 }),
    ask("hi", {
      maxTokens: 1,
      promptLogProbs: true,
      sampling: { repetitionPenalty: 1.1, frequencyPenalty: 0.5, topK: 5, logitBias: [{ id: 7, bias: -3 }] },
    }),
  ].map((request) => toBinary(GenerateRequestSchema, create(GenerateRequestSchema, request)));
  const below = integers(SEED);
  const answers = new Map<status, number>();
  await undisturbed(() =>
    concurrently(OF_BYTES, async () => {
      const { code } = await answer(mutated(valid[below(valid.length)] as Uint8Array, below));
      answers.set(code, (answers.get(code) ?? 0) + 1);
    }),
  );
  expect([...answers.keys()].filter((code) => !ALLOWED.has(code)).map((code) => status[code])).toEqual([]);
  // Enough were still requests, and enough were not.
  expect(answers.get(status.OK)).toBeGreaterThan(OF_BYTES / 50);
  expect(answers.get(status.INVALID_ARGUMENT)).toBeGreaterThan(OF_BYTES / 50);
});

/** Nothing of what is done is left in the worker, or changes another's reply. */
async function undisturbed(action: () => Promise<void>): Promise<void> {
  const { client, mesh } = stage;
  const reference = ask("hi", { as: LOUD, maxTokens: 6 });
  const before = fingerprint(await client.generateText(reference));
  await action();
  await until(() => mesh.running.worker.engine.figures().running === 0, "every slot is free");
  expect(mesh.running.worker.table.figures()).toMatchObject({ rowsHeld: 0 });
  expect(mesh.log().filter(({ level }) => level === "error" || level === "fatal")).toEqual([]);
  expect(fingerprint(await client.generateText(reference))).toEqual(before);
}

async function concurrently(count: number, one: () => Promise<void>): Promise<void> {
  let begun = 0;
  const all = async () => {
    while (begun++ < count) await one();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, all));
}

function integers(seed: number): (limit: number) => number {
  const next = uniform(seed);
  return (limit) => Math.floor(next() * limit);
}

function fieldsOf(error: ClientError | undefined): string[] {
  return error?.fieldViolations.map(({ field }) => field) ?? [];
}

/** One to three changes: bits flipped, bytes replaced, cut off, doubled, taken out or put in. */
function mutated(bytes: Uint8Array, below: (limit: number) => number): Uint8Array {
  let result = [...bytes];
  for (let changes = 1 + below(3); changes > 0; changes--) {
    const at = below(result.length + 1);
    const length = 1 + below(6);
    switch (below(6)) {
      case 0:
        if (at < result.length) result[at] = (result[at] as number) ^ (1 << below(8));
        break;
      case 1:
        if (at < result.length) result[at] = below(256);
        break;
      case 2:
        result = result.slice(0, at);
        break;
      case 3:
        result.splice(at, 0, ...result.slice(at, at + length));
        break;
      case 4:
        result.splice(at, length);
        break;
      default:
        result.splice(at, 0, ...Array.from({ length }, () => below(256)));
    }
  }
  return Uint8Array.from(result);
}

/** The status of a call, which must come. */
function answer(bytes: Uint8Array): Promise<StatusObject> {
  const same = (buffer: Buffer) => buffer;
  const path = methodPath(InferenceService.method.generate);
  const call = raw.makeServerStreamRequest(path, same, same, Buffer.from(bytes), metadata, {
    deadline: Date.now() + 60_000,
  });
  call.on("data", () => {});
  return new Promise((resolve) => {
    // A failed call says so twice, as an error and as a status; both say the same.
    call.on("error", (_: ServiceError) => {});
    call.on("status", resolve);
  });
}
