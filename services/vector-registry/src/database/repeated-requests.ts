import { createHash } from "node:crypto";
import { type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { ServiceError } from "@persona-mesh/service";
import type { MutationScope } from "./mutation.ts";
import { sendAhead } from "./registry-dialect.ts";
import type { Tx } from "./tx.ts";

const MAX_REQUEST_ID_LENGTH = 64;

/** @throws ServiceError INVALID_ARGUMENT */
export function requireRequestId(requestId: string): void {
  if (requestId.length <= MAX_REQUEST_ID_LENGTH && /^[\x21-\x7e]*$/.test(requestId)) return;
  throw ServiceError.invalid([
    { field: "request_id", description: `must have at most ${MAX_REQUEST_ID_LENGTH} printable ASCII characters` },
  ]);
}

/** The answer that this request got before. @throws ServiceError REQUEST_ID_REUSED */
export async function answerOf<Desc extends DescMessage>(
  tx: Tx,
  scope: MutationScope<Desc>,
): Promise<MessageShape<Desc> | undefined> {
  const { context, request, responseSchema, tenant } = scope;
  if (request.requestId === "") return undefined;
  const seen = await tx
    .selectFrom("requests")
    .select(["method", "request_digest", "response"])
    .where("tenant", "=", tenant)
    .where("subject", "=", context.caller.subject)
    .where("request_id", "=", request.requestId)
    .executeTakeFirst();
  if (seen === undefined) return undefined;
  if (seen.method !== context.method || seen.request_digest !== digestOf(scope)) {
    throw new ServiceError("REQUEST_ID_REUSED", `request id "${request.requestId}" was used for another request`);
  }
  return fromBinary(responseSchema, seen.response) as MessageShape<Desc>;
}

/** Keep the answer for a request that is repeated; part of the mutation itself. */
export async function rememberAnswer<Desc extends DescMessage>(
  tx: Tx,
  scope: MutationScope<Desc>,
  response: MessageShape<Desc>,
): Promise<void> {
  const { context, request, responseSchema, tenant } = scope;
  if (request.requestId === "") return;
  const answer = {
    tenant,
    subject: context.caller.subject,
    request_id: request.requestId,
    method: context.method,
    request_digest: digestOf(scope),
    response: Buffer.from(toBinary(responseSchema, response)),
  };
  await sendAhead(tx, tx.insertInto("requests").values(answer).compile());
}

function digestOf({ request, requestSchema }: Pick<MutationScope<DescMessage>, "request" | "requestSchema">): string {
  return createHash("sha256").update(toBinary(requestSchema, request)).digest("hex");
}
