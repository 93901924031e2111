import type { ColumnType, Generated, GeneratedAlways } from "kysely";

/**
 * The tables of `migrations/`, as kysely types them. `bigint` columns arrive as bigint, times as Date, jsonb as what it
 * holds; what is written to jsonb is text.
 */
export interface Database {
  readonly tenants: TenantsTable;
  readonly models: ModelsTable;
  readonly vectors: VectorsTable;
  readonly contents: ContentsTable;
  readonly versions: VersionsTable;
  readonly evaluations: EvaluationsTable;
  readonly revocations: RevocationsTable;
  readonly aliases: AliasesTable;
  readonly alias_targets: AliasTargetsTable;
  readonly personas: PersonasTable;
  readonly persona_revisions: PersonaRevisionsTable;
  readonly persona_terms: PersonaTermsTable;
  readonly activations: ActivationsTable;
  readonly approvals: ApprovalsTable;
  readonly break_glass_uses: BreakGlassUsesTable;
  readonly audit: AuditTable;
  readonly audit_heads: AuditHeadsTable;
  readonly audit_roots: AuditRootsTable;
  readonly audit_root_heads: AuditRootHeadsTable;
  readonly audit_keys: AuditKeysTable;
  readonly revision_counter: RevisionCounterTable;
  readonly changes: ChangesTable;
  readonly workers: WorkersTable;
  readonly requests: RequestsTable;
}

type Json = ColumnType<unknown, string, string>;
/** Set by the database at insertion. */
type Now = Generated<Date>;

interface Named {
  display_name: Generated<string>;
}

/** What can be changed, and deleted softly. */
interface Mutable {
  etag: Generated<bigint>;
  created_at: Now;
  updated_at: Now;
  deleted_at: Date | null;
}

export interface TenantsTable extends Named, Mutable {
  tenant: string;
  context: Generated<"CUSTOMER_FACING" | "INTERNAL">;
  alpha_cap_hundredths: number | null;
  required_approvals: Generated<number>;
  approvers: Generated<string[]>;
  approval_lifetime_seconds: Generated<bigint>;
  revocation: Generated<"REMOVE" | "END">;
  staleness_limit_seconds: Generated<bigint>;
  max_vectors: Generated<number>;
  max_versions: Generated<number>;
  max_personas: Generated<number>;
  max_stored_bytes: Generated<bigint>;
  guard_observe_only: Generated<boolean>;
  guard_window_tokens: Generated<number>;
  guard_band_hundredths: Generated<number>;
  guard_step_hundredths: Generated<number>;
  guard_repetition_hundredths: Generated<number>;
  guard_cache: Generated<"KEEP" | "REPREFILL">;
  guard_twin_share_basis_points: Generated<number>;
  guard_refill_tokens: Generated<number>;
  serving_weight: Generated<number>;
  serving_max_running: number | null;
  serving_max_waiting: number | null;
  serving_tokens_per_minute: number | null;
  active_persona: string | null;
  active_number: number | null;
  activated_by: string | null;
  activated_at: Date | null;
  activation_reason: string | null;
  active_break_glass: string | null;
}

export interface ModelsTable extends Named, Mutable {
  model: string;
  model_checksum: string;
  architecture: string;
  layers: number;
  hidden_size: number;
  vocabulary_size: number;
  tokenizer_digest: Generated<string>;
  reference_norms: Generated<number[]>;
}

export interface VectorsTable extends Named, Mutable {
  tenant: string;
  vector: string;
  description: Generated<string>;
}

export interface ContentsTable {
  tenant: string;
  digest: string;
  bytes: Uint8Array;
  size_bytes: GeneratedAlways<number>;
}

export interface VersionsTable {
  tenant: string;
  vector: string;
  digest: string;
  number: number;
  model_checksum: string;
  graph_digest: string;
  tokenizer_digest: Generated<string>;
  hidden_size: number;
  layer_count: number;
  layers: number[];
  site: string;
  manifest: string;
  pairs: Generated<string>;
  seed: Generated<string>;
  parent_digest: string | null;
  submitter: string;
  requested_by: Generated<string>;
  job: Generated<string>;
  created_at: Now;
}

export interface EvaluationsTable {
  tenant: string;
  vector: string;
  digest: string;
  number: number;
  alpha_min: number;
  alpha_max: number;
  figures: Json;
  evaluator: string;
  created_at: Now;
}

export interface RevocationsTable {
  tenant: string;
  digest: string;
  revision: bigint;
  reason: string;
  revoked_by: string;
  created_at: Now;
}

export interface AliasesTable {
  tenant: string;
  vector: string;
  alias: string;
  digest: string;
  number: number;
  reason: Generated<string>;
  updated_by: string;
  break_glass: string | null;
  etag: Generated<bigint>;
  updated_at: Now;
}

export interface AliasTargetsTable {
  tenant: string;
  vector: string;
  alias: string;
  number: number;
  digest: string;
  reason: Generated<string>;
  set_by: string;
  break_glass: string | null;
  created_at: Now;
}

export interface PersonasTable extends Named, Mutable {
  tenant: string;
  persona: string;
  description: Generated<string>;
  latest: number;
  released: number | null;
}

export interface PersonaRevisionsTable {
  tenant: string;
  persona: string;
  number: number;
  digest: string;
  model_checksum: string;
  mode: "ADD" | "ADD_RENORM";
  positions: "ALL" | "PROMPT" | "GENERATED";
  policy: "ACCEPT" | "SCALE" | "ORTHOGONALIZE" | "REJECT";
  composition: Json;
  cap_hundredths: number;
  cause: "WRITTEN" | "ALIAS_MOVED";
  created_by: string;
  created_at: Now;
}

export interface PersonaTermsTable {
  tenant: string;
  persona: string;
  number: number;
  term: number;
  vector: string;
  alias: string | null;
  digest: string;
  alpha: number;
  layers: number[];
  layers_written: boolean;
}

export interface ActivationsTable {
  tenant: string;
  number: number;
  persona: string | null;
  persona_number: number | null;
  reason: Generated<string>;
  activated_by: string;
  break_glass: string | null;
  created_at: Now;
}

export interface ApprovalsTable {
  tenant: string;
  approval: string;
  vector: string;
  digest: string;
  decision: "APPROVE" | "REJECT";
  approver: string;
  evaluation: Generated<number>;
  reason: Generated<string>;
  created_at: Now;
  expires_at: Date;
  revoked_at: Date | null;
  revoked_by: string | null;
  etag: Generated<bigint>;
}

export interface BreakGlassUsesTable {
  tenant: string;
  use: string;
  action: string;
  resource: string;
  actor: string;
  justification: string;
  created_at: Now;
  reviewer: string | null;
  accepted: boolean | null;
  note: string | null;
  reviewed_at: Date | null;
}

export type AuditChainName = "CHANGES" | "READS";

/** Writers give tenant, chain and payload; the database links the entry to its chain. */
export interface AuditTable {
  tenant: string;
  chain: AuditChainName;
  payload: string;
  sequence: Generated<bigint>;
  previous_hash: Generated<string>;
  hash: Generated<string>;
  actor: GeneratedAlways<string>;
  action: GeneratedAlways<string>;
  resource: GeneratedAlways<string>;
}

export interface AuditHeadsTable {
  tenant: string;
  chain: AuditChainName;
  sequence: bigint;
  hash: string;
}

export interface AuditRootsTable {
  number: bigint;
  body: string;
  signature: Uint8Array;
  key_id: string;
  created_at: Now;
}

/** The heads that moved under a root. */
export interface AuditRootHeadsTable {
  leaf: bigint;
  number: bigint;
  tenant: string;
  chain: AuditChainName;
  sequence: bigint;
  hash: string;
  path: Uint8Array;
}

export interface AuditKeysTable {
  key_id: string;
  jwk: string;
  created_at: Now;
}

export interface RevisionCounterTable {
  one: Generated<boolean>;
  revision: bigint;
  compacted: Generated<bigint>;
}

export interface ChangesTable {
  revision: bigint;
  part: number;
  tenant: string;
  model_checksum: string | null;
  body: Uint8Array;
  created_at: Now;
}

export interface WorkersTable {
  worker: string;
  model_checksum: string;
  state: "NOT_READY" | "READY" | "STALE" | "ERROR";
  applied_revision: bigint;
  problems: Json;
  reported_at: Now;
  connected_until: Date | null;
}

export interface RequestsTable {
  tenant: string;
  subject: string;
  request_id: string;
  method: string;
  request_digest: string;
  response: Uint8Array;
  created_at: Now;
}
