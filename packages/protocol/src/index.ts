/** The public contract as generated code: messages, services and the authorization option of every method. */
export * from "./gen/google/rpc/error_details_pb.ts";
export * from "./gen/google/rpc/status_pb.ts";
export * from "./gen/persona/auth/v1/auth_pb.ts";
export * from "./gen/persona/inference/v1/inference_pb.ts";
export * from "./gen/persona/steering/v1/steering_pb.ts";
