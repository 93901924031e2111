import { createHash, randomUUID } from "node:crypto";
import {
  canonicalJson,
  encodeVector,
  type JsonValue,
  type VectorManifest,
  type VectorVersion,
  versionDigest,
} from "@persona-mesh/steering";
import { type RawBuilder, sql } from "kysely";
import type { DatabasePool } from "../database/connect.ts";

/** Rows of the registry written as a service writes them that has no code of ours: by plain SQL. */

/** Checksum of the one model that these rows know. */
export const MODEL_CHECKSUM = "a".repeat(64);
const LAYERS = 4;
const HIDDEN_SIZE = 8;

/** Run statements in one transaction that acts for a tenant, with an audit entry unless told otherwise. */
export async function actAs(
  pool: DatabasePool,
  tenant: string,
  statements: readonly RawBuilder<unknown>[],
  { audited = true } = {},
): Promise<void> {
  await pool.db.transaction().execute(async (db) => {
    await sql`SELECT set_config('persona.tenant', ${tenant}, true)`.execute(db);
    for (const statement of statements) await statement.execute(db);
    if (audited) await auditEntry(tenant).execute(db);
  });
}

export function auditEntry(
  tenant: string,
  payload = '{"actor":"test","action":"Test","resource":"x"}',
): RawBuilder<unknown> {
  return sql`INSERT INTO audit (tenant, chain, payload) VALUES (${tenant}, 'CHANGES', ${payload})`;
}

/** The model and some tenants, each with the vector `cheerful`. */
export async function addTenants(pool: DatabasePool, ...tenants: string[]): Promise<void> {
  await actAs(pool, "platform", [
    sql`INSERT INTO models (model, model_checksum, architecture, layers, hidden_size, vocabulary_size)
        VALUES ('base', ${MODEL_CHECKSUM}, 'test', ${LAYERS}, ${HIDDEN_SIZE}, 100) ON CONFLICT DO NOTHING`,
    ...tenants.map((tenant) => sql`INSERT INTO tenants (tenant) VALUES (${tenant})`),
  ]);
  for (const tenant of tenants) {
    await actAs(pool, tenant, [sql`INSERT INTO vectors (tenant, vector) VALUES (${tenant}, 'cheerful')`]);
  }
}

/** The bytes of a version; another seed gives another version. */
export function vectorBytes(seed: number): Buffer {
  const layers = [1, 2];
  const manifest: VectorManifest = {
    formatVersion: 2,
    name: `seed ${seed}`,
    modelChecksum: MODEL_CHECKSUM,
    hiddenSize: HIDDEN_SIZE,
    layerCount: LAYERS,
    site: "post_block",
    layers,
    referenceNorms: [1, 1],
    origin: {
      kind: "imported",
      format: "safetensors",
      producer: "repeng",
      fileDigest: "b".repeat(64),
      norms: [1, 1],
    },
  };
  const unit = Float32Array.from({ length: HIDDEN_SIZE }, (_, i) => (i === seed % HIDDEN_SIZE ? 1 : 0));
  const version: VectorVersion = { manifest, directions: new Map(layers.map((layer) => [layer, unit])) };
  return Buffer.from(encodeVector(version));
}

export function digestOf(seed: number): string {
  return versionDigest(vectorBytes(seed));
}

export function contentRow(tenant: string, bytes: Uint8Array): RawBuilder<unknown> {
  const digest = createHash("sha256").update(bytes).digest("hex");
  return sql`INSERT INTO contents (tenant, digest, bytes) VALUES (${tenant}, ${digest}, ${bytes})`;
}

/** A version's row; `change` overrides columns. */
export function versionRow(
  tenant: string,
  seed: number,
  change: Readonly<Record<string, unknown>> = {},
): RawBuilder<unknown> {
  const bytes = vectorBytes(seed);
  const header = JSON.parse(bytes.subarray(8, 8 + Number(bytes.readBigUInt64LE())).toString()) as {
    readonly __metadata__: { readonly manifest: string };
  };
  const row: Record<string, unknown> = {
    tenant,
    vector: "cheerful",
    digest: versionDigest(bytes),
    number: seed,
    model_checksum: MODEL_CHECKSUM,
    graph_digest: "",
    hidden_size: HIDDEN_SIZE,
    layer_count: LAYERS,
    layers: [1, 2],
    site: "post_block",
    manifest: header.__metadata__.manifest,
    submitter: "alice",
    ...change,
  };
  return insert("versions", row);
}

/** Bytes and row of a version by alice. */
export function publish(tenant: string, seed: number): RawBuilder<unknown>[] {
  return [contentRow(tenant, vectorBytes(seed)), versionRow(tenant, seed)];
}

export function evaluate(tenant: string, seed: number, min = -50, max = 50, number = 1): RawBuilder<unknown> {
  return sql`INSERT INTO evaluations (tenant, vector, digest, number, alpha_min, alpha_max, evaluator)
    VALUES (${tenant}, 'cheerful', ${digestOf(seed)}, ${number}, ${min}, ${max}, 'carol')`;
}

export function approve(
  tenant: string,
  seed: number,
  approver: string,
  change: Readonly<Record<string, unknown>> = {},
): RawBuilder<unknown> {
  return insert("approvals", {
    tenant,
    approval: randomUUID(),
    vector: "cheerful",
    digest: digestOf(seed),
    decision: "APPROVE",
    approver,
    expires_at: new Date(Date.now() + 86_400_000),
    ...change,
  });
}

/** Where an alias points, and the entry of its history. */
export function pointAlias(
  tenant: string,
  alias: string,
  seed: number,
  { number = 1, glass = null as string | null } = {},
): RawBuilder<unknown>[] {
  const digest = digestOf(seed);
  return [
    sql`INSERT INTO alias_targets (tenant, vector, alias, number, digest, set_by, break_glass)
        VALUES (${tenant}, 'cheerful', ${alias}, ${number}, ${digest}, 'alice', ${glass})`,
    sql`INSERT INTO aliases (tenant, vector, alias, digest, number, updated_by, break_glass)
        VALUES (${tenant}, 'cheerful', ${alias}, ${digest}, ${number}, 'alice', ${glass})
        ON CONFLICT (tenant, vector, alias) DO UPDATE SET digest = excluded.digest, number = excluded.number,
          break_glass = excluded.break_glass`,
  ];
}

export function breakGlass(
  tenant: string,
  use: string,
  change: Readonly<Record<string, unknown>> = {},
): RawBuilder<unknown> {
  return insert("break_glass_uses", {
    tenant,
    use,
    action: "SetAlias",
    resource: "x",
    actor: "alice",
    justification: "outage",
    ...change,
  });
}

/** A revision of a persona with its terms, as [seed, alpha in hundredths]. */
export function writePersona(
  tenant: string,
  persona: string,
  terms: readonly (readonly [seed: number, alpha: number])[],
  number = 1,
): RawBuilder<unknown>[] {
  return [
    insert("persona_revisions", {
      tenant,
      persona,
      number,
      digest: "c".repeat(64),
      model_checksum: MODEL_CHECKSUM,
      mode: "ADD",
      positions: "ALL",
      policy: "REJECT",
      composition: canonicalJson({ outcome: "ACCEPTED", layers: [{ layer: 1, dose: 0.2 }] } as JsonValue),
      cap_hundredths: 50,
      cause: "WRITTEN",
      created_by: "alice",
    }),
    sql`INSERT INTO personas (tenant, persona, latest) VALUES (${tenant}, ${persona}, ${number})
        ON CONFLICT (tenant, persona) DO UPDATE SET latest = excluded.latest`,
    ...terms.map(([seed, alpha], term) => termRow(tenant, persona, number, term, seed, alpha)),
  ];
}

export function termRow(
  tenant: string,
  persona: string,
  number: number,
  term: number,
  seed: number,
  alpha: number,
  layers = [1],
): RawBuilder<unknown> {
  return sql`INSERT INTO persona_terms (tenant, persona, number, term, vector, digest, alpha, layers, layers_written)
    VALUES (${tenant}, ${persona}, ${number}, ${term}, 'cheerful', ${digestOf(seed)}, ${alpha}, ${layers}, true)`;
}

/** Make a revision the active one, with its entry in the history. */
export function activate(
  tenant: string,
  persona: string,
  { number = 1, entry = 1, glass = null as string | null } = {},
): RawBuilder<unknown>[] {
  return [
    sql`UPDATE tenants SET active_persona = ${persona}, active_number = ${number}, active_break_glass = ${glass}
        WHERE tenant = ${tenant}`,
    sql`INSERT INTO activations (tenant, number, persona, persona_number, activated_by)
        VALUES (${tenant}, ${entry}, ${persona}, ${number}, 'alice')`,
  ];
}

/** Revoke a version under the next revision. */
export function revoke(tenant: string, seed: number): RawBuilder<unknown>[] {
  return [
    sql`UPDATE revision_counter SET revision = revision + 1`,
    sql`INSERT INTO revocations (tenant, digest, revision, reason, revoked_by)
        VALUES (${tenant}, ${digestOf(seed)}, (SELECT revision FROM revision_counter), 'unsafe', 'bob')`,
  ];
}

function insert(table: string, row: Readonly<Record<string, unknown>>): RawBuilder<unknown> {
  const columns = sql.join(Object.keys(row).map((name) => sql.id(name)));
  return sql`INSERT INTO ${sql.id(table)} (${columns}) VALUES (${sql.join(Object.values(row))})`;
}
