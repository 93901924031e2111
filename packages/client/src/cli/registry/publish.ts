import type { MessageInitShape } from "@bufbuild/protobuf";
import type { ProvenanceSchema } from "@persona-mesh/protocol/registry";
import { type ChangeOptions, changeFields, finishChange } from "./change.ts";
import { type EvaluationOptions, evaluationOf } from "./evaluation-options.ts";
import { belowTenant } from "./names.ts";
import type { RegistrySession } from "./session.ts";
import { versionLines } from "./version-lines.ts";

export interface PublishOptions extends ChangeOptions, EvaluationOptions {
  vector: string;
}

/** Publish canonical bytes as a version of `--vector`, and print what the registry made of them. */
export async function publish<Options extends PublishOptions>(
  session: RegistrySession<Options>,
  content: Uint8Array,
  provenance: MessageInitShape<typeof ProvenanceSchema> = {},
): Promise<void> {
  const { client, options, call } = session;
  const { versionDigest } = await import("@persona-mesh/steering");
  const evaluation = evaluationOf(options);
  const response = await client.vectors.publishVersion(
    {
      parent: belowTenant(session, "vectors", options.vector),
      content,
      digest: versionDigest(content),
      provenance,
      ...(evaluation === undefined ? {} : { evaluation }),
      ...changeFields(options),
    },
    call,
  );
  const { version } = response;
  const lines = version === undefined ? [] : versionLines(version);
  await finishChange(session, { name: version?.name ?? "", response, lines });
}
