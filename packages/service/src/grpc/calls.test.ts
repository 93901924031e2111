import { expect, test } from "vitest";
import { startTestServer, until } from "../testing/test-server.ts";

test("a unary call reaches its handler with the caller of its token", async () => {
  let seen: unknown;
  await using mesh = await startTestServer({
    getModel: async (_, context) => {
      seen = {
        ...context.caller,
        roles: [...context.caller.roles],
        authorization: context.metadata.get("authorization"),
      };
      return { modelChecksum: "abc", layers: 4 };
    },
  });
  const client = await mesh.client({ roles: ["viewer"] });
  const model = await client.getModel({}, { requestId: "from-the-test" });
  expect([model.modelChecksum, model.layers]).toEqual(["abc", 4]);
  expect(seen).toEqual({ subject: "tester", tenant: "acme", roles: ["viewer"], authorization: [] });
  await until(() => mesh.logs.some((line) => line["msg"] === "call ended"), "the call's log line");
  expect(mesh.logs.find((line) => line["msg"] === "call ended")).toMatchObject({
    method: "/persona.inference.v1.InferenceService/GetModel",
    code: "OK",
    tenant: "acme",
    subject: "tester",
    requestId: "from-the-test",
  });
});

test("a stream arrives in order and ends", async () => {
  await using mesh = await startTestServer({
    async *generate(request) {
      for (let i = 0; i < (request.maxTokens ?? 0); i++) yield { event: { case: "tokens", value: { text: `${i}` } } };
    },
  });
  const client = await mesh.client();
  const texts: string[] = [];
  for await (const { event } of client.generate({ maxTokens: 500 })) {
    if (event.case === "tokens") texts.push(event.value.text);
  }
  expect(texts).toEqual(Array.from({ length: 500 }, (_, i) => `${i}`));
});
