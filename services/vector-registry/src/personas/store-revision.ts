import type { PersonaRevisionsTable } from "../database/schema.ts";
import type { Mutation } from "../database/transaction.ts";
import { type ComposedRevision, layersOf } from "./compose-revision.ts";
import type { RevisionKey } from "./read-revision.ts";

/** Store a revision with its terms; the persona's row is the caller's to write. */
export async function storeRevision(
  { db, actor }: Mutation,
  { tenant, persona, number }: RevisionKey,
  { composed, cause }: { readonly composed: ComposedRevision; readonly cause: PersonaRevisionsTable["cause"] },
): Promise<void> {
  const { spec, terms, composition, digest, modelChecksum, capHundredths } = composed;
  await db
    .insertInto("persona_revisions")
    .values({
      tenant,
      persona,
      number,
      digest,
      model_checksum: modelChecksum,
      mode: spec.mode,
      positions: spec.positions,
      policy: spec.policy,
      composition,
      cap_hundredths: capHundredths,
      cause,
      created_by: actor,
    })
    .execute();
  await db
    .insertInto("persona_terms")
    .values(
      terms.map((term, index) => ({
        tenant,
        persona,
        number,
        term: index,
        vector: term.version.vector,
        alias: term.written.alias,
        digest: term.version.digest,
        alpha: term.written.alpha,
        layers: layersOf(term),
        layers_written: term.written.layers !== undefined,
      })),
    )
    .execute();
}
