import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, BinaryWriter } from "@bufbuild/protobuf/wire";
import { type FileDescriptorProto, FileDescriptorProtoSchema, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { status } from "@grpc/grpc-js";
import { InferenceService } from "@persona-mesh/protocol";
import { expect, test } from "vitest";
import { frame, rawCall } from "../testing/raw-call.ts";
import { startTestServer } from "../testing/test-server.ts";

// Field numbers of grpc.reflection.v1.ServerReflectionRequest and ServerReflectionResponse.
const FILE_BY_FILENAME = 3;
const FILE_CONTAINING_SYMBOL = 4;
const LIST_SERVICES = 7;
const FILE_DESCRIPTOR_RESPONSE = 4;
const LIST_SERVICES_RESPONSE = 6;

/** The length-delimited fields of a message, by number. */
function fieldsOf(bytes: Uint8Array): Map<number, Uint8Array[]> {
  const reader = new BinaryReader(bytes);
  const fields = new Map<number, Uint8Array[]>();
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (wireType === 2) fields.set(number, [...(fields.get(number) ?? []), reader.bytes()]);
    else reader.skip(wireType);
  }
  return fields;
}

async function reflect(port: number, field: number, value: string, version = "v1"): Promise<Map<number, Uint8Array[]>> {
  const result = await rawCall(port, {
    path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    body: frame(new BinaryWriter().tag(field, 2).string(value).finish()),
  });
  expect(result.code).toBe(status.OK);
  return fieldsOf(result.body.subarray(5));
}

async function files(port: number, field: number, value: string): Promise<FileDescriptorProto[]> {
  const [answer = new Uint8Array()] = (await reflect(port, field, value)).get(FILE_DESCRIPTOR_RESPONSE) ?? [];
  return (fieldsOf(answer).get(1) ?? []).map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
}

test("a tool without protos finds the service and can build all of its messages", async () => {
  const mesh = await startTestServer();
  const { port } = mesh.server;
  for (const version of ["v1", "v1alpha"]) {
    const [list = new Uint8Array()] =
      (await reflect(port, LIST_SERVICES, "*", version)).get(LIST_SERVICES_RESPONSE) ?? [];
    const names = (fieldsOf(list).get(1) ?? []).flatMap((service) => fieldsOf(service).get(1) ?? []);
    expect(names.map((name) => Buffer.from(name).toString())).toEqual([InferenceService.typeName]);
  }

  // As grpcurl does: the file of the symbol, then by name whatever a file depends on.
  const found = new Map<string, FileDescriptorProto>();
  const add = (more: FileDescriptorProto[]) => {
    for (const file of more) found.set(file.name, file);
  };
  add(await files(port, FILE_CONTAINING_SYMBOL, InferenceService.typeName));
  for (const { dependency } of found.values()) {
    for (const name of dependency) if (!found.has(name)) add(await files(port, FILE_BY_FILENAME, name));
  }
  // A registry wants files after their dependencies.
  const sorted: FileDescriptorProto[] = [];
  const visit = (file: FileDescriptorProto) => {
    if (sorted.includes(file)) return;
    for (const name of file.dependency) visit(found.get(name) as FileDescriptorProto);
    sorted.push(file);
  };
  for (const file of found.values()) visit(file);
  const registry = createFileRegistry({ $typeName: FileDescriptorSetSchema.typeName, file: sorted });
  const service = registry.getService(InferenceService.typeName);
  expect(service?.methods.map(({ name, methodKind }) => [name, methodKind])).toEqual(
    InferenceService.methods.map(({ name, methodKind }) => [name, methodKind]),
  );
  expect(service?.method["generate"]?.input.fields.map(({ name }) => name)).toEqual(
    InferenceService.method.generate.input.fields.map(({ name }) => name),
  );
});

test("production does not answer reflection unless told", async () => {
  const path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
  const body = frame(new BinaryWriter().tag(LIST_SERVICES, 2).string("*").finish());
  const development = await startTestServer();
  const production = { environment: "production", authJwksFile: development.keys.jwksFile } as const;
  const quiet = await startTestServer({}, production);
  const told = await startTestServer({}, { ...production, reflection: true });
  const code = async (port: number) => (await rawCall(port, { path, body })).code;
  expect(await Promise.all([development, quiet, told].map(({ server }) => code(server.port)))).toEqual([
    status.OK,
    status.UNIMPLEMENTED,
    status.OK,
  ]);
});
