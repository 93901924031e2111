/** The contract of the vector registry. Apart from the rest: both it and the worker have a `GetModelRequest`. */
export * from "./gen/persona/registry/v1/approval_pb.ts";
export * from "./gen/persona/registry/v1/audit_pb.ts";
export * from "./gen/persona/registry/v1/distribution_pb.ts";
export * from "./gen/persona/registry/v1/model_pb.ts";
export * from "./gen/persona/registry/v1/persona_pb.ts";
export * from "./gen/persona/registry/v1/tenant_pb.ts";
export * from "./gen/persona/registry/v1/vector_pb.ts";
