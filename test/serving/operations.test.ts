import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { credentials, makeClientConstructor, type ServiceClientConstructor, status } from "@grpc/grpc-js";
import { InferenceService } from "@persona-mesh/protocol";
import { service as healthService } from "grpc-health-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { rawCall } from "../support/raw-grpc.ts";
import { openTestWorker, type TestWorker } from "../support/test-worker.ts";

let mesh: TestWorker;

beforeAll(async () => {
  mesh = await openTestWorker({ slots: 3 });
});

afterAll(() => mesh.close());

describe("health", () => {
  // The generated client, as probes use it; its methods are not typed.
  const HealthClient = makeClientConstructor(healthService as never, "Health") as ServiceClientConstructor;

  function check(service: string): Promise<string> {
    const client = new HealthClient(mesh.address, credentials.createInsecure());
    return new Promise((resolve) => {
      client["check"]?.({ service }, (error: { code: status } | null, answer: { status: string }) => {
        client.close();
        resolve(error === null ? answer.status : (status[error.code] as string));
      });
    });
  }

  test("of the worker and of its service, without a token", async () => {
    expect(await check("")).toBe("SERVING");
    expect(await check(InferenceService.typeName)).toBe("SERVING");
  });

  test("of a service that is not here", async () => {
    expect(await check("no.such.Service")).toBe("NOT_FOUND");
  });
});

/** Fields of a message that is known by its numbers alone: bytes by field. */
function fieldsOf(bytes: Uint8Array): Map<number, Uint8Array[]> {
  const fields = new Map<number, Uint8Array[]>();
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (wireType === 2) fields.set(field, [...(fields.get(field) ?? []), reader.bytes()]);
    else reader.skip(wireType);
  }
  return fields;
}

test("reflection lists the service to a client that has no protos and no token", async () => {
  const LIST_SERVICES = 7;
  const LIST_SERVICES_RESPONSE = 6;
  const { status: ended, messages } = await rawCall(mesh.address, {
    path: "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    bytes: new BinaryWriter().tag(LIST_SERVICES, 2).string("*").finish(),
  });
  expect(ended.code).toBe(status.OK);
  const [list = new Uint8Array()] = fieldsOf(messages[0] as Uint8Array).get(LIST_SERVICES_RESPONSE) ?? [];
  const names = (fieldsOf(list).get(1) ?? []).flatMap((service) => fieldsOf(service).get(1) ?? []);
  expect(names.map((name) => Buffer.from(name).toString())).toContain(InferenceService.typeName);
});

test("the management port says that the worker lives and is ready, and nothing else", async () => {
  const answer = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${mesh.managementPort}${path}`);
    return [response.status, (await response.text()).trim()];
  };
  expect(await answer("/healthz")).toEqual([200, "ok"]);
  expect(await answer("/readyz")).toEqual([200, "ready"]);
  expect((await answer("/"))[0]).toBe(404);
  expect((await answer("/personas"))[0]).toBe(404);
});

test("GetModel tells the manifest of the package, and how many run at once", async () => {
  const viewer = await mesh.client({ roles: ["viewer"] });
  const { spec, modelChecksum, graphDigest, tokenizerDigest, precision } = mesh.running.worker.model.manifest;
  expect(await viewer.getModel()).toMatchObject({
    modelChecksum,
    graphDigest,
    tokenizerDigest,
    precision: precision.name,
    architecture: spec.architecture,
    provider: "cpu",
    layers: spec.layers,
    hiddenSize: spec.hidden,
    vocabularySize: spec.vocabulary,
    contextTokens: spec.contextTokens,
    slots: 3,
  });
});
