import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { InferenceClient } from "@persona-mesh/client";
import { Pooling } from "@persona-mesh/protocol";
import { ensureDevKeys, type RoleName, signDevToken } from "@persona-mesh/service";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect, failureOf } from "../support/failure.ts";
import { ask, textPrompt } from "../support/requests.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";

let mesh: TestWorker;
let strangers: string;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 1 });
  strangers = await mkdtemp(join(tmpdir(), "persona-strangers-"));
});

afterAll(async () => {
  await mesh.close();
  await rm(strangers, { recursive: true, force: true });
});

/** Every method once, so that none is left open. */
function calls(client: InferenceClient): Record<string, () => Promise<unknown>> {
  const prompt = textPrompt("hello");
  return {
    generate: () => client.generateText(ask("hello", { maxTokens: 1 })),
    score: () => client.score({ prompt, tokenSets: [{ name: "one", ids: [5] }] }),
    captureActivations: () =>
      collect(client.captureActivations({ samples: [{ prompt }], pooling: Pooling.LAST_PROMPT_TOKEN })),
    getModel: () => client.getModel(),
    listLoadedPersonas: () => collect(client.listLoadedPersonas()),
  };
}

async function expectEveryCall(token: string | undefined, reason: string): Promise<void> {
  using client = new InferenceClient({ address: mesh.address, ...(token === undefined ? {} : { token }) });
  for (const call of Object.values(calls(client))) {
    expect(await failureOf(call())).toMatchObject({ code: status.UNAUTHENTICATED, reason });
  }
}

const segment = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
const parsed = (text = "") => JSON.parse(Buffer.from(text, "base64url").toString());

describe("tokens", () => {
  test("without one", () => expectEveryCall(undefined, "TOKEN_MISSING"));

  test("an expired one", async () => {
    await expectEveryCall(await mesh.token({ ttlSeconds: -60 }), "TOKEN_EXPIRED");
  });

  test("one that a stranger signed, also under the name of our key", async () => {
    const claims = { subject: "mallory", tenant: "acme", roles: ["admin", "service"] as const };
    const theirs = await ensureDevKeys(strangers);
    await expectEveryCall(await signDevToken(theirs, claims), "TOKEN_INVALID");
    const { kid } = (await ensureDevKeys(mesh.dataDir)).privateJwk;
    const disguised = { ...theirs, privateJwk: { ...theirs.privateJwk, ...(kid === undefined ? {} : { kid }) } };
    await expectEveryCall(await signDevToken(disguised, claims), "TOKEN_INVALID");
  });

  test("one whose claims were changed after it was signed", async () => {
    const [header, payload, signature] = (await mesh.token({ roles: ["viewer"] })).split(".");
    const claims = { ...parsed(payload), roles: ["service"], tenant: "globex" };
    await expectEveryCall(`${header}.${segment(claims)}.${signature}`, "TOKEN_INVALID");
  });

  test("one without a signature", async () => {
    const [, payload] = (await mesh.token()).split(".");
    await expectEveryCall(`${segment({ alg: "none", typ: "JWT" })}.${payload}.`, "TOKEN_INVALID");
  });

  test("one for another audience or from another issuer", async () => {
    await expectEveryCall(await mesh.token({ audience: "another-service" }), "TOKEN_INVALID");
    await expectEveryCall(await mesh.token({ issuer: "another-issuer" }), "TOKEN_INVALID");
  });

  test("noise", () => expectEveryCall("noise", "TOKEN_INVALID"));
});

describe("roles", () => {
  const reading = ["getModel", "listLoadedPersonas"];
  const using = [...reading, "generate", "score"];

  test.each<[RoleName, string[]]>([
    ["viewer", reading],
    ["approver", reading],
    ["operator", using],
    ["admin", using],
    ["service", [...using, "captureActivations"]],
  ])("%s may call %j and nothing else", async (role, allowed) => {
    const client = await mesh.client({ roles: [role] });
    for (const [name, call] of Object.entries(calls(client))) {
      if (allowed.includes(name)) await call();
      else
        expect(await failureOf(call())).toMatchObject({ code: status.PERMISSION_DENIED, reason: "PERMISSION_DENIED" });
    }
  });

  test("roles of other systems count for nothing", async () => {
    const client = await mesh.client({ roles: ["root", "owner"] as never });
    for (const call of Object.values(calls(client))) {
      expect(await failureOf(call())).toMatchObject({ reason: "PERMISSION_DENIED" });
    }
  });
});

test("no token, and no part of one, is ever logged", async () => {
  const token = await mesh.token();
  using client = new InferenceClient({ address: mesh.address, token });
  await client.getModel();
  const written = mesh.lines.join("");
  expect(written).toContain("call ended");
  for (const part of token.split(".")) expect(written).not.toContain(part);
});
