import { gzipSync } from "node:zlib";
import { create, toBinary } from "@bufbuild/protobuf";
import { status } from "@grpc/grpc-js";
import { GenerateRequestSchema } from "@persona-mesh/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { frame, type RawCall, rawCall } from "../testing/raw-call.ts";
import { openTestServer, type TestServer, until } from "../testing/test-server.ts";

const GENERATE = "/persona.inference.v1.InferenceService/Generate";
const GET_MODEL = "/persona.inference.v1.InferenceService/GetModel";

let mesh: TestServer;
let authorization: string;
let prompts: string[];

beforeAll(async () => {
  prompts = [];
  mesh = await openTestServer({
    async *generate({ prompt }) {
      prompts.push(prompt?.input.case === "text" ? prompt.input.value : "");
      yield {};
    },
  });
  authorization = `Bearer ${await mesh.token()}`;
});

afterAll(() => mesh.close());

const send = (call: Partial<RawCall>) =>
  rawCall(mesh.server.port, { path: GENERATE, ...call, headers: { authorization, ...call.headers } });

const hello = toBinary(
  GenerateRequestSchema,
  create(GenerateRequestSchema, { prompt: { input: { case: "text", value: "hello" } } }),
);

test("the raw client's well-formed call works, or the tests below would prove nothing", async () => {
  expect(await send({ body: frame(hello) })).toMatchObject({ httpStatus: 200, code: status.OK });
  expect(prompts).toEqual(["hello"]);
});

test.each([
  ["a varint that never ends", Buffer.alloc(64, 0xff)],
  ["a length beyond the message", Buffer.from([0x0a, 0x7f, 0x01])],
  ["a field of another wire type", Buffer.from([0x0d, 1, 2, 3, 4, 0x0f])],
  ["field number 0", Buffer.from([0x02, 0x00])],
  ["a cut-off message", hello.subarray(0, hello.length - 2)],
  ["text that is not UTF-8", Buffer.from([0x0a, 0x04, 0x0a, 0x02, 0xc3, 0x28])],
  ["groups nested a million deep", Buffer.alloc(1_000_000, 0x7b)],
])("%s is malformed", async (_, body) => {
  expect(await send({ body: frame(body) })).toMatchObject({
    code: status.INVALID_ARGUMENT,
    reason: "MESSAGE_MALFORMED",
    message: "the request is not a persona.inference.v1.GenerateRequest",
  });
});

test("a message over the limit is refused by its frame, before it is sent", async () => {
  const head = frame(Buffer.alloc(0));
  head.writeUInt32BE(0xffffffff, 1);
  expect(await send({ body: head })).toMatchObject({ code: status.RESOURCE_EXHAUSTED, reason: "MESSAGE_TOO_LARGE" });
});

test("a small message that decompresses to a large one is refused", async () => {
  const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024));
  expect(await send({ body: frame(bomb, true), headers: { "grpc-encoding": "gzip" } })).toMatchObject({
    code: status.RESOURCE_EXHAUSTED,
    reason: "MESSAGE_TOO_LARGE",
  });
});

test("a compressed message is read; broken and unknown compression are refused", async () => {
  const gzip = { "grpc-encoding": "gzip" };
  expect((await send({ body: frame(gzipSync(hello), true), headers: gzip })).code).toBe(status.OK);
  expect(await send({ body: frame(hello, true), headers: gzip })).toMatchObject({ reason: "MESSAGE_MALFORMED" });
  const snappy = { "grpc-encoding": "snappy" };
  expect(await send({ body: frame(hello, true), headers: snappy })).toMatchObject({
    code: status.UNIMPLEMENTED,
    reason: "UNIMPLEMENTED",
  });
});

test("no message, and more than one, are refused", async () => {
  expect((await send({})).code).toBe(status.UNIMPLEMENTED);
  const before = prompts.length;
  const twice = await send({ body: Buffer.concat([frame(hello), frame(hello)]) });
  expect([twice.code, prompts.length]).toEqual([status.UNIMPLEMENTED, before]);
});

test("methods and services that do not exist are unimplemented", async () => {
  for (const path of ["/persona.inference.v1.InferenceService/Nope", "/nope", "/", "/constructor/prototype"]) {
    expect((await send({ path, body: frame(hello) })).code, path).toBe(status.UNIMPLEMENTED);
  }
});

test("what is not gRPC is told so by HTTP", async () => {
  expect((await send({ headers: { "content-type": "application/json" } })).httpStatus).toBe(415);
});

test("a deadline that cannot be read is the client's error", async () => {
  expect(await send({ body: frame(hello), headers: { "grpc-timeout": "soon" } })).toMatchObject({
    code: status.INVALID_ARGUMENT,
    reason: "INVALID_ARGUMENT",
  });
});

test("a call that is refused costs nothing: its message is not waited for", async () => {
  // The frame announces a message that never comes; the answer does not wait for it.
  const started = performance.now();
  const result = await send({ body: Buffer.from([0, 0, 0, 1]), headers: { authorization: "Bearer forged" } });
  expect(result.reason).toBe("TOKEN_INVALID");
  expect(performance.now() - started).toBeLessThan(2_000);
});

test("after all of this the server holds no call and still answers", async () => {
  await until(() => mesh.server.runningCalls === 0, "no running call");
  expect((await send({ path: GET_MODEL, body: frame(new Uint8Array()) })).code).toBe(status.OK);
  expect(mesh.logs.filter(({ msg, code }) => msg === "call failed by a defect" || code === "INTERNAL")).toEqual([]);
});
