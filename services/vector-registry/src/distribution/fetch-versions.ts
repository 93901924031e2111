import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import {
  type FetchVersionsRequest,
  type FetchVersionsResponseSchema,
  VersionKeySchema,
} from "@persona-mesh/protocol/registry";
import { type CallContext, RESOURCE_ID, ServiceError } from "@persona-mesh/service";
import type { Distribution } from "./distribution.ts";
import { requireModelChecksum, requireWorkerName } from "./worker-fields.ts";

const MAX_VERSIONS = 256;

/** Bytes for a worker, one version a message. Every read is in the audit before its bytes are sent. */
export async function* fetchVersions(
  { db, readAudit }: Distribution,
  request: FetchVersionsRequest,
  context: CallContext,
): AsyncGenerator<MessageInitShape<typeof FetchVersionsResponseSchema>> {
  const model = requireModelChecksum(request.modelChecksum);
  const worker = requireWorkerName(request.worker);
  requireKeys(request);
  context.annotate({ worker, versions: request.versions.length });
  for (const { tenant, digest } of request.versions) {
    const found = await db
      .selectFrom("versions")
      .innerJoin("contents", (join) =>
        join.onRef("contents.tenant", "=", "versions.tenant").onRef("contents.digest", "=", "versions.digest"),
      )
      .leftJoin("revocations", (join) =>
        join.onRef("revocations.tenant", "=", "versions.tenant").onRef("revocations.digest", "=", "versions.digest"),
      )
      .select(["versions.vector", "contents.bytes"])
      .where("versions.tenant", "=", tenant)
      .where("versions.digest", "=", digest)
      .where("versions.model_checksum", "=", model)
      .where("revocations.digest", "is", null)
      .limit(1)
      .executeTakeFirst();
    const key = create(VersionKeySchema, { tenant, digest });
    if (found === undefined) {
      yield { key };
      continue;
    }
    await readAudit.record([
      {
        tenant,
        actor: context.caller.subject,
        resource: `tenants/${tenant}/vectors/${found.vector}/versions/${digest}`,
        digest,
        callId: context.requestId,
        purpose: `served by ${worker}`,
      },
    ]);
    yield { key, content: found.bytes };
  }
}

function requireKeys({ versions }: FetchVersionsRequest): void {
  if (versions.length > MAX_VERSIONS) {
    throw ServiceError.invalid([{ field: "versions", description: `${versions.length} are over ${MAX_VERSIONS}` }]);
  }
  const at = versions.findIndex(({ tenant, digest }) => !RESOURCE_ID.test(tenant) || !/^[0-9a-f]{64}$/.test(digest));
  if (at >= 0) {
    throw ServiceError.invalid([{ field: `versions[${at}]`, description: "must name a tenant and a sha256" }]);
  }
}
