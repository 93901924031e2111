import { create, type MessageInitShape } from "@bufbuild/protobuf";
import {
  type Change,
  ChangeSchema,
  CompositionSchema,
  type PersonaRevision,
  PersonaRevisionSchema,
  ResolvedTermSchema,
  RevocationPolicy,
  type TenantStateSchema,
} from "@persona-mesh/protocol/registry";
import { encodeVector, IMPORTED_FORMAT_VERSION, type VectorManifest, versionDigest } from "@persona-mesh/steering";
import type { LoadingModel } from "../registry/load-revision.ts";

/** A model of a test's own making, which needs no weights. */
export const TEST_MODEL: LoadingModel = { modelChecksum: "a".repeat(64), hidden: 4, layers: 3, tableRows: 7 };

export interface TestVersion {
  readonly digest: string;
  readonly content: Uint8Array;
}

/** A version along one axis, at layer 1 where nothing else is said. */
export function versionAlong(axis: number, changes: Partial<VectorManifest> = {}): TestVersion {
  const layers = changes.layers ?? [1];
  const hiddenSize = changes.hiddenSize ?? TEST_MODEL.hidden;
  const direction = new Float32Array(hiddenSize);
  direction[axis] = 1;
  const content = encodeVector({
    manifest: {
      formatVersion: IMPORTED_FORMAT_VERSION,
      name: `axis ${axis}`,
      modelChecksum: TEST_MODEL.modelChecksum,
      hiddenSize,
      layerCount: TEST_MODEL.layers,
      site: "post_block",
      layers,
      referenceNorms: layers.map(() => 2),
      origin: {
        kind: "imported",
        format: "safetensors",
        producer: "repeng",
        fileDigest: "b".repeat(64),
        norms: layers.map(() => 1),
      },
      ...changes,
    } as VectorManifest,
    directions: new Map(layers.map((layer) => [layer, direction])),
  });
  return { digest: versionDigest(content), content };
}

const ACCEPTED = { outcome: "ACCEPTED", factor: 1, capHundredths: 50 };

/** A revision of tenants/TENANT/personas/PERSONA with one term. */
export function revisionWith(
  persona: string,
  { digest }: TestVersion,
  changes: {
    readonly alpha?: number;
    readonly number?: number;
    readonly modelChecksum?: string;
    readonly terms?: MessageInitShape<typeof ResolvedTermSchema>[];
    readonly composition?: MessageInitShape<typeof CompositionSchema> | undefined;
  } = {},
): PersonaRevision {
  const { alpha = 30, number = 1, terms, composition, ...rest } = { composition: ACCEPTED, ...changes };
  const term = { vector: "v", version: `v/versions/${digest}`, digest, alphaHundredths: alpha, layers: [1] };
  const name = persona.includes("/") ? persona : `tenants/acme/personas/${persona}`;
  return create(PersonaRevisionSchema, {
    name: `${name}/revisions/${number}`,
    number,
    digest: versionDigest(Buffer.from(`${name} ${number} ${digest} ${alpha}`)),
    modelChecksum: TEST_MODEL.modelChecksum,
    ...rest,
    terms: (terms ?? [term]).map((each) => create(ResolvedTermSchema, each)),
    ...(composition === undefined ? {} : { composition: create(CompositionSchema, composition) }),
  });
}

export function tenantState(state: MessageInitShape<typeof TenantStateSchema> = {}, tenant = "acme"): Change {
  return create(ChangeSchema, {
    tenant,
    state: {
      case: "tenantState",
      value: {
        capHundredths: 50,
        revocation: RevocationPolicy.REMOVE,
        stalenessLimit: { seconds: 3600n },
        ...state,
      } as MessageInitShape<typeof TenantStateSchema>,
    },
  });
}

export function personaState(revision: PersonaRevision): Change {
  const [, tenant = ""] = revision.name.split("/");
  const name = revision.name.split("/").slice(0, 4).join("/");
  return create(ChangeSchema, { tenant, state: { case: "personaState", value: { name, released: revision } } });
}

export function revocation({ digest }: TestVersion, tenant = "acme"): Change {
  return create(ChangeSchema, { tenant, state: { case: "versionRevoked", value: { digest } } });
}
