import { createHash } from "node:crypto";
import { ServiceError } from "@persona-mesh/service";
import {
  type CompositionDescription,
  canonicalJson,
  capOf,
  compose,
  describeComposition,
  formatAlpha,
  requireComposed,
  SteeringError,
  type Term,
  type VectorVersion,
} from "@persona-mesh/steering";
import { type Selectable, sql } from "kysely";
import type { TenantsTable } from "../database/schema.ts";
import type { Tx } from "../database/tx.ts";
import { DecodedVersions } from "./decoded-versions.ts";
import { type ResolvedTerm, resolveTerms } from "./resolve-terms.ts";
import type { WrittenSpec } from "./written-spec.ts";

/** A persona with everything resolved and composed, ready to be stored. */
export interface ComposedRevision {
  readonly spec: WrittenSpec;
  readonly terms: readonly ResolvedTerm[];
  readonly modelChecksum: string;
  /** Canonical JSON of a {@link CompositionDescription}. */
  readonly composition: string;
  readonly capHundredths: number;
  /** sha256 over everything that decides what the persona does. */
  readonly digest: string;
}

export interface ComposeRequest {
  /** Resource name, part of the digest and named in messages. */
  readonly persona: string;
  readonly spec: WrittenSpec;
  /** Whether terms are what they were before: then what was revoked or deleted since is for the gate to judge. @default false */
  readonly inForce?: boolean;
}

/** Enough for the vectors of a few hundred personas of a large model; a version has at most 3.5 MiB. */
const MAX_DECODED_BYTES = 64 * 1024 * 1024;
const decoded = new DecodedVersions(MAX_DECODED_BYTES);

/**
 * Resolve and compose a persona under the cap that its tenant has now.
 *
 * @throws ServiceError as `resolveTerms`, ALPHA_OVER_CAP, INVALID_ARGUMENT; SteeringError with the first finding of a composition
 *   that is refused
 */
export async function composeRevision(
  db: Tx,
  tenantRow: Selectable<TenantsTable>,
  { persona, spec, inForce = false }: ComposeRequest,
): Promise<ComposedRevision> {
  const { tenant, context, alpha_cap_hundredths: own } = tenantRow;
  const capHundredths = capOf(context, own ?? undefined);
  requireAlphas(persona, spec, tenantRow, capHundredths);
  const terms = await resolveTerms(db, tenant, spec.terms, { inForce });
  const versions = await decoded.read(
    db,
    tenant,
    terms.map(({ version }) => version.digest),
  );
  const [{ version: first }] = terms;
  const composed = compose({
    terms: terms.map((term) => steeringTerm(term, versions.get(term.version.digest) as VectorVersion, spec)),
    hiddenSize: first.hidden_size,
    layerCount: first.layer_count,
    capHundredths,
    policy: spec.policy,
  });
  try {
    requireComposed(composed);
  } catch (error) {
    if (!(error instanceof SteeringError)) throw error;
    throw new SteeringError(error.reason, `persona "${persona}": ${error.message}`, error.details);
  }
  const description = describeComposition(composed);
  const composition = canonicalJson(description);
  await requireStorable(db, persona, composition);
  const digest = revisionDigest(persona, spec, terms, description);
  return { spec, terms, modelChecksum: first.model_checksum, composition, capHundredths, digest };
}

/** Before anything is read: the message says whose cap it is. */
function requireAlphas(
  persona: string,
  spec: WrittenSpec,
  { context, alpha_cap_hundredths: own }: Selectable<TenantsTable>,
  cap: number,
): void {
  const index = spec.terms.findIndex(({ alpha }) => Math.abs(alpha) > cap);
  if (index < 0) return;
  const alpha = formatAlpha((spec.terms[index] as (typeof spec.terms)[number]).alpha);
  const whose = own === null ? `of ${context}` : `that the tenant has within ${context}`;
  throw new ServiceError(
    "ALPHA_OVER_CAP",
    `persona "${persona}" term ${index + 1}: alpha ${alpha} is over the cap ${formatAlpha(cap)} ${whose}. Lower it, or have an approver change the tenant's deployment context.`,
    { metadata: { persona, term: String(index), alpha, cap: formatAlpha(cap), context } },
  );
}

/** A version may be in two terms, at different layers or alphas: `compose` judges what they do together. */
function steeringTerm(
  { written }: ResolvedTerm,
  { manifest, directions }: VectorVersion,
  { terms }: WrittenSpec,
): Term {
  const isTwice = terms.filter(({ name }) => name === written.name).length > 1;
  return {
    id: isTwice ? `${written.name}#${terms.indexOf(written)}` : written.name,
    alphaHundredths: written.alpha,
    directions: new Map(
      manifest.layers.map((layer, at) => [
        layer,
        { direction: directions.get(layer) as Float32Array, referenceNorm: manifest.referenceNorms[at] as number },
      ]),
    ),
    ...(written.layers === undefined ? {} : { layers: written.layers }),
  };
}

/** As the schema bounds the column. */
const MAX_STORED_BYTES = 1_048_576;
/** jsonb writes 1e-300 with all its zeros: in the worst case a number takes 16 times what canonical JSON takes. */
const SURELY_STORABLE = MAX_STORED_BYTES / 16;

async function requireStorable(db: Tx, persona: string, composition: string): Promise<void> {
  if (composition.length <= SURELY_STORABLE) return;
  const { rows } = await sql<{ bytes: number }>`
    SELECT octet_length((${composition}::jsonb)::text) AS bytes`.execute(db);
  const bytes = rows[0]?.bytes ?? 0;
  if (bytes <= MAX_STORED_BYTES) return;
  throw ServiceError.invalid([
    {
      field: "persona.spec.terms",
      description: `the composability result of "${persona}" takes ${bytes} bytes, over ${MAX_STORED_BYTES}: let fewer terms act at fewer layers`,
    },
  ]);
}

/** Cap and policy act through the factor; the doses follow from the rest. */
function revisionDigest(
  name: string,
  { mode, positions, policy }: WrittenSpec,
  terms: readonly ResolvedTerm[],
  { factor }: CompositionDescription,
): string {
  const decisive = canonicalJson({
    name,
    mode,
    positions,
    policy,
    factor,
    terms: terms.map((term) => ({
      version: term.version.digest,
      alphaHundredths: term.written.alpha,
      layers: layersOf(term),
    })),
  });
  return createHash("sha256").update(decisive).digest("hex");
}

/** Where a term acts, ascending. */
export function layersOf({ written, version }: ResolvedTerm): number[] {
  return [...(written.layers ?? version.layers)].sort((a, b) => a - b);
}
