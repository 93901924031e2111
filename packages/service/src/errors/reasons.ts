import { status } from "@grpc/grpc-js";

/**
 * Every reason for which a service of the mesh refuses or fails. Reasons are part of the public contract: clients
 * switch on them, so one is never renamed or given another code. `docs/errors.md` is this table.
 */
export const REASONS = {
  TOKEN_MISSING: {
    code: status.UNAUTHENTICATED,
    meaning: "The call carries no bearer token.",
    remedy: "Send the metadata `authorization: Bearer TOKEN`.",
    retry: "never",
  },
  TOKEN_EXPIRED: {
    code: status.UNAUTHENTICATED,
    meaning: "The token's `exp` has passed.",
    remedy: "Get a fresh token and call again.",
    retry: "never",
  },
  TOKEN_INVALID: {
    code: status.UNAUTHENTICATED,
    meaning: "The token is malformed, not signed by a trusted key, or made for another issuer or audience.",
    remedy: "Get a token from the issuer that this service trusts.",
    retry: "never",
  },
  CERTIFICATE_INVALID: {
    code: status.UNAUTHENTICATED,
    meaning:
      "The call has no token, and its client certificate, though of a trusted authority, proves no service of this mesh.",
    remedy:
      "Use a certificate with one SPIFFE id of the trust domain that is still valid; the message says what is wrong.",
    retry: "never",
  },
  KEYS_UNAVAILABLE: {
    code: status.UNAVAILABLE,
    meaning: "Tokens cannot be verified: the issuer's keys could not be fetched yet, or not for too long.",
    remedy: "Retry after the delay; if it persists, see that the service reaches authJwksUrl.",
    retry: "after-delay",
  },
  PERMISSION_DENIED: {
    code: status.PERMISSION_DENIED,
    meaning: "None of the caller's roles may do this.",
    remedy: "Ask an admin of the tenant for a role that the method accepts.",
    retry: "never",
  },
  INVALID_ARGUMENT: {
    code: status.INVALID_ARGUMENT,
    meaning: "Fields of the request are outside what the method accepts; the field violations name them.",
    remedy: "Correct the named fields.",
    retry: "never",
  },
  MESSAGE_MALFORMED: {
    code: status.INVALID_ARGUMENT,
    meaning: "The bytes of the request are not the protobuf message that the method takes.",
    remedy: "Build the client from the published protos.",
    retry: "never",
  },
  MESSAGE_TOO_LARGE: {
    code: status.RESOURCE_EXHAUSTED,
    meaning: "A message is larger than the server or the client accepts.",
    remedy: "Send less in one call; the limit is in the message.",
    retry: "never",
  },
  UNIMPLEMENTED: {
    code: status.UNIMPLEMENTED,
    meaning: "The server has no such method, or does not support what the call asks for.",
    remedy: "Compare the versions of client and server.",
    retry: "never",
  },
  UNKNOWN_SERVICE: {
    code: status.NOT_FOUND,
    meaning: "A health check names a service that this server does not have.",
    remedy: "Use the full name of a service, or the empty name for the whole server.",
    retry: "never",
  },
  PERSONA_NOT_FOUND: {
    code: status.NOT_FOUND,
    meaning: "The caller's tenant has no such persona. A persona of another tenant gives the same answer.",
    remedy: "List the personas that the worker has loaded for the tenant.",
    retry: "never",
  },
  PROMPT_EMPTY: {
    code: status.INVALID_ARGUMENT,
    meaning: "The prompt has no tokens.",
    remedy: "Send text, chat messages or token ids.",
    retry: "never",
  },
  PROMPT_TOO_LONG: {
    code: status.INVALID_ARGUMENT,
    meaning: "The prompt leaves no room for a reply in the model's context.",
    remedy: "Shorten the prompt; the context size is in the message.",
    retry: "never",
  },
  TOKEN_ID_OUT_OF_RANGE: {
    code: status.INVALID_ARGUMENT,
    meaning: "A token id is not in the model's vocabulary.",
    remedy: "Tokenize with the tokenizer of the served model.",
    retry: "never",
  },
  ALPHA_OVER_CAP: {
    code: status.INVALID_ARGUMENT,
    meaning: "An alpha is over the cap of the deployment context.",
    remedy: "Lower it, or have an approver change the tenant's deployment context.",
    retry: "never",
  },
  VECTOR_NOT_FINITE: {
    code: status.INVALID_ARGUMENT,
    meaning: "A vector contains NaN or infinity.",
    remedy: "Extract the vector again; do not patch the values.",
    retry: "never",
  },
  VECTOR_WIDTH_MISMATCH: {
    code: status.INVALID_ARGUMENT,
    meaning: "A vector does not have as many values as the model's residual stream.",
    remedy: "Use a vector that was extracted from the served model.",
    retry: "never",
  },
  VECTOR_FORMAT: {
    code: status.INVALID_ARGUMENT,
    meaning: "A vector's data type, shape and bytes do not fit together, or its length is not usable.",
    remedy: "Send row-major little-endian values with their shape.",
    retry: "never",
  },
  LAYER_OUT_OF_RANGE: {
    code: status.INVALID_ARGUMENT,
    meaning: "A layer is not one of the model's blocks, or is named twice.",
    remedy: "Layers count from 0; GetModel says how many there are.",
    retry: "never",
  },
  DOSE_OVER_BUDGET: {
    code: status.INVALID_ARGUMENT,
    meaning: "The composed persona is over its dose budget at a layer or in sum, and its policy is to refuse.",
    remedy: "Lower the alphas, or choose the policy SCALE or ORTHOGONALIZE.",
    retry: "never",
  },
  TERMS_OVERLAP: {
    code: status.INVALID_ARGUMENT,
    meaning: "Two terms of a persona push along the same axis, or one lies in the span of those before it.",
    remedy: "Drop one of them, or choose another policy.",
    retry: "never",
  },
  MODEL_MISMATCH: {
    code: status.FAILED_PRECONDITION,
    meaning: "A vector was made on another model than the one served.",
    remedy: "Extract the vector on this model, or call a worker that serves the other one.",
    retry: "never",
  },
  RESOURCE_NOT_FOUND: {
    code: status.NOT_FOUND,
    meaning: "There is no such resource, or it is not the caller's to see: the answer is the same.",
    remedy: "Check the name, and the tenant of the token.",
    retry: "never",
  },
  RESOURCE_EXISTS: {
    code: status.ALREADY_EXISTS,
    meaning: "A resource of this name is there already, possibly deleted.",
    remedy: "Choose another id, or undelete the one that is there.",
    retry: "never",
  },
  RESOURCE_DELETED: {
    code: status.FAILED_PRECONDITION,
    meaning: "The resource is deleted.",
    remedy: "Undelete it first.",
    retry: "never",
  },
  RESOURCE_REFERENCED: {
    code: status.FAILED_PRECONDITION,
    meaning: "Other resources still refer to this one; the message names them.",
    remedy: "Change or delete those first, or force a revocation.",
    retry: "never",
  },
  ETAG_MISMATCH: {
    code: status.ABORTED,
    meaning: "The resource was changed since the caller read it.",
    remedy: "Read it again and repeat the change on what is there now.",
    retry: "never",
  },
  REQUEST_ID_REUSED: {
    code: status.INVALID_ARGUMENT,
    meaning: "The request id was used before for a different request.",
    remedy: "Give every new request a new id.",
    retry: "never",
  },
  QUOTA_EXCEEDED: {
    code: status.RESOURCE_EXHAUSTED,
    meaning: "The tenant has as much as its quota allows.",
    remedy: "Delete what is not needed, or ask the platform for a higher quota.",
    retry: "never",
  },
  CONFLICT: {
    code: status.ABORTED,
    meaning: "Other changes were in the way, several times in a row.",
    remedy: "Retry after the delay.",
    retry: "after-delay",
  },
  DATABASE_UNAVAILABLE: {
    code: status.UNAVAILABLE,
    meaning: "The registry cannot reach its database, or the database refuses to write.",
    remedy: "Retry after the delay.",
    retry: "after-delay",
  },
  COMMIT_UNKNOWN: {
    code: status.UNAVAILABLE,
    meaning: "The database went away during the commit: whether the change was made is not known.",
    remedy: "Repeat the call with the same request id: it has one effect and gives the first answer.",
    retry: "after-delay",
  },
  AUDIT_UNAVAILABLE: {
    code: status.UNAVAILABLE,
    meaning: "A read could not be written to the audit, so nothing was read.",
    remedy: "Retry after the delay.",
    retry: "after-delay",
  },
  MODEL_NOT_FOUND: {
    code: status.FAILED_PRECONDITION,
    meaning: "No model with the checksum that the vector names is registered.",
    remedy: "Register the model, or extract the vector on a registered one.",
    retry: "never",
  },
  VERSION_REVOKED: {
    code: status.FAILED_PRECONDITION,
    meaning: "The version is revoked: it is never served again.",
    remedy: "Use another version.",
    retry: "never",
  },
  NOT_APPROVED: {
    code: status.FAILED_PRECONDITION,
    meaning: "A version lacks approvals that the tenant's policy asks for, or somebody rejected it.",
    remedy: "Have other people than its submitter approve it.",
    retry: "never",
  },
  ALPHA_NOT_VALIDATED: {
    code: status.FAILED_PRECONDITION,
    meaning: "An alpha is outside the range for which the version was evaluated.",
    remedy: "Evaluate the version at this alpha, or stay within its range.",
    retry: "never",
  },
  NOT_COMPOSED: {
    code: status.FAILED_PRECONDITION,
    meaning: "The persona's revision has no stored composability result.",
    remedy: "Write the persona again.",
    retry: "never",
  },
  SELF_APPROVAL: {
    code: status.FAILED_PRECONDITION,
    meaning: "Who submitted a version, or started the job that made it, cannot approve it.",
    remedy: "Ask somebody else.",
    retry: "never",
  },
  SELF_REVIEW: {
    code: status.FAILED_PRECONDITION,
    meaning: "Who used break-glass cannot review that use.",
    remedy: "Ask somebody else.",
    retry: "never",
  },
  NOT_AN_APPROVER: {
    code: status.PERMISSION_DENIED,
    meaning: "The tenant's policy names its approvers, and the caller is not one of them.",
    remedy: "Ask one of them.",
    retry: "never",
  },
  ALREADY_DECIDED: {
    code: status.ALREADY_EXISTS,
    meaning: "The caller has approved or rejected this version already.",
    remedy: "Revoke that decision first.",
    retry: "never",
  },
  ALREADY_REVIEWED: {
    code: status.FAILED_PRECONDITION,
    meaning: "This use of break-glass has been reviewed.",
    remedy: "None needed.",
    retry: "never",
  },
  PERSONA_ACTIVE: {
    code: status.FAILED_PRECONDITION,
    meaning: "The persona is the tenant's active one.",
    remedy: "Activate another one, or deactivate it first.",
    retry: "never",
  },
  PERSONAS_STALE: {
    code: status.UNAVAILABLE,
    meaning: "The worker has not heard from the registry for longer than the tenant's policy allows.",
    remedy: "Retry after the delay, or call without a persona.",
    retry: "after-delay",
  },
  PERSONA_NOT_SERVABLE: {
    code: status.FAILED_PRECONDITION,
    meaning: "The worker has the persona and cannot serve it; the message says why.",
    remedy: "Correct the persona in the registry.",
    retry: "never",
  },
  STEERING_OVERFLOW: {
    code: status.FAILED_PRECONDITION,
    meaning: "The steered residual of this request left the range of finite numbers; the request was ended.",
    remedy: "Lower alpha or steer fewer layers; both are in the metadata.",
    retry: "never",
  },
  TABLE_TOO_SMALL: {
    code: status.FAILED_PRECONDITION,
    meaning: "A persona needs more rows than the whole steering table has.",
    remedy: "Steer fewer layers, or give the worker a larger table.",
    retry: "never",
  },
  QUEUE_FULL: {
    code: status.RESOURCE_EXHAUSTED,
    meaning: "As many requests wait already as the worker accepts, of all tenants or of this one.",
    remedy: "Retry after the delay.",
    retry: "after-delay",
  },
  RATE_LIMITED: {
    code: status.RESOURCE_EXHAUSTED,
    meaning: "The tenant has used the tokens per minute that the platform allows it.",
    remedy: "Retry after the delay; ask the platform for a higher quota if it happens often.",
    retry: "after-delay",
  },
  REVISION_NOT_SERVED: {
    code: status.FAILED_PRECONDITION,
    meaning: "The call pins a revision of a persona, and this worker serves another one of it.",
    remedy: "Read which revision is released, or name the persona without a revision.",
    retry: "never",
  },
  READER_STALLED: {
    code: status.RESOURCE_EXHAUSTED,
    meaning:
      "The client left what was sent to it unread for a minute; its stream was reset. Only the server's log has this reason.",
    remedy: "Read streams as they come, and put what is to be worked on slowly aside.",
    retry: "never",
  },
  SERVER_BUSY: {
    code: status.RESOURCE_EXHAUSTED,
    meaning: "The server handles as many calls as it may at once.",
    remedy: "Retry after the delay.",
    retry: "after-delay",
  },
  NOT_READY: {
    code: status.UNAVAILABLE,
    meaning: "The service is still starting.",
    remedy: "Retry after the delay.",
    retry: "after-delay",
  },
  DRAINING: {
    code: status.UNAVAILABLE,
    meaning: "The server is shutting down: it takes no new calls and ends those that outlast the drain time.",
    remedy: "Retry after the delay; another server answers.",
    retry: "after-delay",
  },
  UNAVAILABLE: {
    code: status.UNAVAILABLE,
    meaning: "No server answered, or the connection broke.",
    remedy: "Check address and TLS settings; retry with backoff.",
    retry: "after-delay",
  },
  DEADLINE_EXCEEDED: {
    code: status.DEADLINE_EXCEEDED,
    meaning: "The call's deadline, or the longest time that the server gives a call, has passed.",
    remedy: "Ask for less, or allow more time.",
    retry: "never",
  },
  CANCELLED: {
    code: status.CANCELLED,
    meaning: "The client cancelled the call or went away.",
    remedy: "None needed.",
    retry: "never",
  },
  STEP_FAILED: {
    code: status.INTERNAL,
    meaning: "The runtime failed while it computed a step; the requests in that step were ended.",
    remedy: "Retry once; if it persists, report the request id.",
    retry: "never",
  },
  INTERNAL: {
    code: status.INTERNAL,
    meaning: "A defect of the server. Nothing of the cause is told; the server's log has it under the request id.",
    remedy: "Report the request id.",
    retry: "never",
  },
  DATABASE_EMBEDDED_FAILED: {
    code: status.UNAVAILABLE,
    meaning: "The PostgreSQL that the service starts for itself cannot run. The service does not start.",
    remedy: "The message says why; or give the URL of a server as databaseUrl.",
    retry: "never",
    exitCode: 6,
  },
  DATABASE_SCHEMA: {
    code: status.FAILED_PRECONDITION,
    meaning:
      "The database's schema is not one that this version of the registry can work with. The service does not start.",
    remedy:
      "The message says which migration differs; run the version of the registry that made the schema, or a newer one.",
    retry: "never",
    exitCode: 7,
  },
  AUDIT_ROOTS_DIVERGED: {
    code: status.DATA_LOSS,
    meaning:
      "The audit in the database is not what was signed and is kept outside: entries were deleted or changed, or a backup was restored. The registry does not start.",
    remedy:
      "Find out who did it. After a restore that was meant, start once with acceptLostAuditRoots at the number that the message names.",
    retry: "never",
    exitCode: 8,
  },
  MODEL_PACKAGE_CORRUPT: {
    code: status.DATA_LOSS,
    meaning: "The model package's files do not match its manifest. The worker does not start.",
    remedy: "Import the checkpoint again.",
    retry: "never",
    exitCode: 4,
  },
  PRECISION_UNSUPPORTED: {
    code: status.FAILED_PRECONDITION,
    meaning:
      "The worker's execution provider has no kernels for the model package's precision. The worker does not start.",
    remedy: "Import the checkpoint in another precision, or run the worker on the provider that the message names.",
    retry: "never",
    exitCode: 5,
  },
  STEERING_SELF_TEST_FAILED: {
    code: status.FAILED_PRECONDITION,
    meaning:
      "A known steering row does not change what the model computes by the amount that it must. The worker does not start.",
    remedy:
      "Run `persona model verify` on the package and import the checkpoint again; if it passes there, report a defect.",
    retry: "never",
    exitCode: 9,
  },
  PORT_IN_USE: {
    code: status.UNAVAILABLE,
    meaning: "Another process listens on a port that the service was told to use. The service does not start.",
    remedy: "Stop the other process or choose another port.",
    retry: "never",
    exitCode: 3,
  },
  CONFIG_INVALID: {
    code: status.FAILED_PRECONDITION,
    meaning: "The configuration is refused. The service does not start.",
    remedy: "The message names the option and where its value came from; `--help` lists all options.",
    retry: "never",
    exitCode: 2,
  },
} as const satisfies Record<string, ReasonEntry>;

/** A stable reason: the key by which clients tell failures apart. */
export type Reason = keyof typeof REASONS;

export interface ReasonEntry {
  /** The gRPC code that carries this reason, always the same one. */
  readonly code: status;
  /** What happened, in one line. */
  readonly meaning: string;
  /** What the caller can do, in one line. */
  readonly remedy: string;
  /** Whether the same call can succeed later without any change. */
  readonly retry: "never" | "after-delay";
  /** How the process ends when it cannot start for this reason; 1 where unset. */
  readonly exitCode?: number;
}

export function isReason(name: unknown): name is Reason {
  return typeof name === "string" && Object.hasOwn(REASONS, name);
}

/** The table's row of a reason, with the optional columns. */
export function reasonEntry(reason: Reason): ReasonEntry {
  return REASONS[reason];
}
