import { create } from "@bufbuild/protobuf";
import { type Change, ChangeSchema, type PersonaRevision } from "@persona-mesh/protocol/registry";
import { capOf } from "@persona-mesh/steering";
import type { Kysely } from "kysely";
import type { Database } from "../database/schema.ts";
import { type RevisionKey, readRevisions } from "../personas/read-revision.ts";
import { personaChange, tenantChange } from "./states.ts";

/** Everything that the workers of one model serve, at one revision. */
export interface Snapshot {
  readonly revision: bigint;
  readonly changes: readonly Change[];
}

/** How long a snapshot is given to further watchers: a fleet that starts together costs one. Milliseconds. */
const SHARED_FOR = 2_000;

/** Snapshots by model, shared by watchers that ask at about the same time. */
export class Snapshots {
  readonly #db: Kysely<Database>;
  readonly #shared = new Map<string, Promise<Snapshot>>();

  /** @param db - connected as persona_watch */
  constructor(db: Kysely<Database>) {
    this.#db = db;
  }

  /** @param history - of the feed: a snapshot is never shared beyond it */
  async of(modelChecksum: string, history: number): Promise<Snapshot> {
    const key = `${history}/${modelChecksum}`;
    const shared = this.#shared.get(key);
    if (shared !== undefined) return shared;
    const taken = takeSnapshot(this.#db, modelChecksum);
    this.#shared.set(key, taken);
    const forget = () => this.#shared.delete(key);
    taken.then(() => setTimeout(forget, SHARED_FOR).unref(), forget);
    return taken;
  }
}

async function takeSnapshot(db: Kysely<Database>, modelChecksum: string): Promise<Snapshot> {
  return db
    .transaction()
    .setAccessMode("read only")
    .setIsolationLevel("repeatable read")
    .execute(async (tx) => {
      const { revision } = await tx.selectFrom("revision_counter").select("revision").executeTakeFirstOrThrow();
      const tenants = await tx
        .selectFrom("tenants")
        .selectAll()
        .where("deleted_at", "is", null)
        .orderBy("tenant")
        .execute();
      const released = await tx
        .selectFrom("personas")
        .innerJoin("persona_revisions as r", (join) =>
          join
            .onRef("r.tenant", "=", "personas.tenant")
            .onRef("r.persona", "=", "personas.persona")
            .onRef("r.number", "=", "personas.released"),
        )
        .select(["personas.tenant", "personas.persona", "r.number"])
        .where("personas.deleted_at", "is", null)
        .where("r.model_checksum", "=", modelChecksum)
        .orderBy("personas.tenant")
        .orderBy("personas.persona")
        .execute();
      const revoked = await tx
        .selectFrom("revocations")
        .innerJoin("versions", (join) =>
          join.onRef("versions.tenant", "=", "revocations.tenant").onRef("versions.digest", "=", "revocations.digest"),
        )
        .select(["revocations.tenant", "revocations.digest"])
        .distinct()
        .where("versions.model_checksum", "=", modelChecksum)
        .orderBy("revocations.tenant")
        .orderBy("revocations.digest")
        .execute();

      const active = tenants.flatMap(({ tenant, active_persona: persona, active_number: number }): RevisionKey[] =>
        persona === null || number === null ? [] : [{ tenant, persona, number }],
      );
      const revisions = await readRevisions(tx, [...active, ...released]);
      const alive = new Set(tenants.map(({ tenant }) => tenant));
      const find = ({ tenant, persona, number }: RevisionKey): PersonaRevision | undefined =>
        revisions.get(`${tenant}/${persona}/${number}`);
      const ofModel = (revision: PersonaRevision | undefined) =>
        revision?.modelChecksum === modelChecksum ? revision : undefined;

      // Revocations first: nothing that is revoked is in force for a moment.
      const changes = [
        ...revoked.map(({ tenant, digest }) => ({
          tenant,
          state: { case: "versionRevoked" as const, value: { digest } },
        })),
        ...released
          .filter(({ tenant }) => alive.has(tenant))
          .map((key) => personaChange(key.tenant, key.persona, find(key))),
        ...tenants.map((row) => {
          const { tenant, active_persona: persona, active_number: number } = row;
          const current = persona === null || number === null ? undefined : find({ tenant, persona, number });
          return tenantChange(row, capOf(row.context, row.alpha_cap_hundredths ?? undefined), ofModel(current));
        }),
      ];
      return { revision, changes: changes.map((change) => create(ChangeSchema, change as never)) };
    });
}
