import { createRegistry, type JsonObject, type Message, toJson } from "@bufbuild/protobuf";
import {
  ApprovalService,
  AuditService,
  DistributionService,
  ModelService,
  PersonaService,
  TenantService,
  VectorService,
} from "@persona-mesh/protocol/registry";

/** All messages of the registry's contract. */
const types = createRegistry(
  TenantService.file,
  ModelService.file,
  VectorService.file,
  PersonaService.file,
  ApprovalService.file,
  AuditService.file,
  DistributionService.file,
);

/** A message as protobuf's JSON, with every field that is not a message, so that keys do not come and go. */
export function messageJson(message: Message): JsonObject {
  const schema = types.getMessage(message.$typeName);
  if (schema === undefined) throw new Error(`${message.$typeName} is no message of the registry`);
  return toJson(schema, message, { registry: types, alwaysEmitImplicit: true }) as JsonObject;
}
