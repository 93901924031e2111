import { type DescFile, type DescService, toBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import type { Server } from "@grpc/grpc-js";
import type { Access } from "../auth/permissions.ts";

/** Server reflection for these services, so that tools such as grpcurl need no protos. */
export async function addReflection(server: Server, services: readonly DescService[]): Promise<void> {
  // Slow to load, and production does without it.
  const { ReflectionService } = await import("@grpc/reflection");
  const files = new Set<DescFile>();
  const add = (file: DescFile) => {
    files.add(file);
    file.dependencies.forEach(add);
  };
  for (const service of services) add(service.file);
  const fileDescriptorProtos = [...files].map(({ proto }) => Buffer.from(toBinary(FileDescriptorProtoSchema, proto)));
  // Reflection reads the descriptors only; the other fields describe a type as proto-loader would have loaded it.
  const definition = { format: "Protocol Buffer 3 DescriptorProto", type: {}, fileDescriptorProtos } as never;
  new ReflectionService({ mesh: definition }, { services: services.map(({ typeName }) => typeName) }).addToServer(
    server,
  );
}

/** Reflection tells what the public protos tell. */
export const REFLECTION_ACCESS: ReadonlyMap<string, Access> = new Map(
  ["v1", "v1alpha"].map((version) => [
    `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
    { kind: "public" },
  ]),
);
