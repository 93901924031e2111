/** The client's side alone, for programs that serve nothing: it loads without keys, logs, configuration and servers. */
export * from "./auth/caller.ts";
export * from "./errors/client-error.ts";
export * from "./errors/reasons.ts";
export * from "./errors/service-error.ts";
export * from "./grpc/client.ts";
export * from "./grpc/limits.ts";
export * from "./tls/tls-source.ts";
