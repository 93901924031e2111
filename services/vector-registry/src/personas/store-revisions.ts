import type { Mutation } from "../database/mutation.ts";
import type { PersonaRevisionsTable } from "../database/schema.ts";
import { type ComposedRevision, layersOf } from "./compose-revision.ts";
import type { RevisionKey } from "./read-revision.ts";

/** A revision that is to be stored. */
export interface NewRevision {
  readonly key: RevisionKey;
  readonly composed: ComposedRevision;
  readonly cause: PersonaRevisionsTable["cause"];
}

/** Store revisions with their terms, at most a few hundred; the personas' rows are the caller's to write. */
export async function storeRevisions({ db, actor }: Mutation, revisions: readonly NewRevision[]): Promise<void> {
  if (revisions.length === 0) return;
  await db
    .insertInto("persona_revisions")
    .values(
      revisions.map(({ key: { tenant, persona, number }, composed, cause }) => ({
        tenant,
        persona,
        number,
        digest: composed.digest,
        model_checksum: composed.modelChecksum,
        mode: composed.spec.mode,
        positions: composed.spec.positions,
        policy: composed.spec.policy,
        composition: composed.composition,
        cap_hundredths: composed.capHundredths,
        cause,
        created_by: actor,
      })),
    )
    .execute();
  await db
    .insertInto("persona_terms")
    .values(
      revisions.flatMap(({ key: { tenant, persona, number }, composed }) =>
        composed.terms.map((term, index) => ({
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
      ),
    )
    .execute();
}
