import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { Mode } from "@persona-mesh/protocol";
import {
  ApprovalDecision,
  ApprovalService,
  DistributionService,
  type GetDistributionResponse,
  PersonaService,
  type TenantPolicySchema,
  type TenantSchema,
  TenantService,
  VectorService,
} from "@persona-mesh/protocol/registry";
import { type Client, PLATFORM_TENANT, type RoleName } from "@persona-mesh/service";
import { decodeVector } from "@persona-mesh/steering";
import type { TestRegistry } from "../../services/vector-registry/src/testing/test-registry.ts";
import { personaName, vectorBytes } from "./personas.ts";
import type { ServedModel } from "./served-model.ts";
import { vectorTensor } from "./tensor.ts";
import { until } from "./until.ts";

/** Layers that test vectors steer. */
const LAYERS = [2, 3];

/** Strength of test personas where nothing else is said. Hundredths. */
const ALPHA = 40;

/** A version at the registry, and its bytes. */
export interface GovernedVersion {
  readonly name: string;
  readonly digest: string;
  readonly bytes: Uint8Array;
}

/** The people of one tenant at a real registry: alice submits, bob approves, and neither does both. */
export class GovernedTenant {
  readonly id: string;
  /** "tenants/{id}". */
  readonly name: string;
  readonly #registry: TestRegistry;
  readonly #served: ServedModel;
  readonly #clients = new Map<string, Promise<unknown>>();

  /** Made by the platform. */
  static async create(
    registry: TestRegistry,
    served: ServedModel,
    id: string,
    policy: MessageInitShape<typeof TenantPolicySchema> = {},
  ): Promise<GovernedTenant> {
    const platform = await registry.client(TenantService, { subject: "operations", tenant: PLATFORM_TENANT });
    await platform.createTenant({ tenantId: id, tenant: { policy } });
    return new GovernedTenant(registry, served, id);
  }

  private constructor(registry: TestRegistry, served: ServedModel, id: string) {
    this.#registry = registry;
    this.#served = served;
    this.id = id;
    this.name = `tenants/${id}`;
  }

  /** Calls of somebody of the tenant; of alice where nobody is named. */
  as<Service extends DescService>(
    service: Service,
    role: RoleName,
    { subject = "alice" }: { readonly subject?: string } = {},
  ): Promise<Client<Service>> {
    const key = [service.typeName, role, subject].join();
    const client =
      this.#clients.get(key) ?? this.#registry.client(service, { subject, tenant: this.id, roles: [role] });
    this.#clients.set(key, client);
    return client as Promise<Client<Service>>;
  }

  persona(persona: string): string {
    return personaName(this.id, persona);
  }

  /** Name of the vector's alias "production". */
  production(vector: string): string {
    return `${this.name}/vectors/${vector}/aliases/production`;
  }

  /** Alice publishes a version whose directions come from the seed, validated for every alpha of the cap. */
  async publish(vector: string, seed: number): Promise<GovernedVersion> {
    const vectors = await this.as(VectorService, "admin");
    const { vectors: present } = await vectors.listVectors({ parent: this.name, pageSize: 1000 });
    const parent = `${this.name}/vectors/${vector}`;
    if (!present.some(({ name }) => name === parent)) {
      await vectors.createVector({ parent: this.name, vectorId: vector });
    }
    const bytes = vectorBytes(this.#served, { name: vector, seed, layers: LAYERS });
    const evaluation = { alphaMinHundredths: -50, alphaMaxHundredths: 50 };
    const { version } = await vectors.publishVersion({ parent, content: bytes, evaluation });
    if (version === undefined) throw new Error("no version in the answer");
    return { name: version.name, digest: version.digest, bytes };
  }

  async approve({ name }: GovernedVersion, subject = "bob") {
    const approvals = await this.as(ApprovalService, "approver", { subject });
    const decision = ApprovalDecision.APPROVE;
    return approvals.createApproval({ parent: this.name, version: name, decision, reason: "figures read" });
  }

  /** Put a version in production; personas that use the alias follow. */
  async point(vector: string, { name }: GovernedVersion) {
    const vectors = await this.as(VectorService, "admin");
    return vectors.setAlias({ alias: { name: this.production(vector), version: name } });
  }

  /** @param vector - name of a version or of an alias */
  async compose(persona: string, vector: string, alphaHundredths = ALPHA) {
    const personas = await this.as(PersonaService, "admin");
    const spec = { terms: [{ vector, alphaHundredths }], mode: Mode.ADD };
    return personas.createPersona({ parent: this.name, personaId: persona, persona: { spec } });
  }

  /** A vector, approved and in production, and a persona of the same name that follows it. */
  async produce(persona: string, seed: number, alphaHundredths = ALPHA): Promise<GovernedVersion> {
    const version = await this.publish(persona, seed);
    await this.approve(version);
    await this.point(persona, version);
    await this.compose(persona, this.production(persona), alphaHundredths);
    return version;
  }

  async activate(persona: string): Promise<bigint> {
    const personas = await this.as(PersonaService, "operator");
    const { revision } = await personas.activatePersona({ name: this.persona(persona) });
    return revision;
  }

  /** Bob pulls the kill switch. */
  async revoke({ name }: GovernedVersion): Promise<bigint> {
    const vectors = await this.as(VectorService, "approver", { subject: "bob" });
    const { revision } = await vectors.revokeVersion({ name, reason: "insults customers", force: true });
    return revision;
  }

  /** What approvers decide: caps and policy. */
  async update(changes: Omit<MessageInitShape<typeof TenantSchema>, "$typeName">): Promise<void> {
    const tenants = await this.as(TenantService, "approver", { subject: "bob" });
    await tenants.updateTenant({ tenant: { ...changes, name: this.name } });
  }

  async distribution(revision = 0n): Promise<GetDistributionResponse> {
    const distribution = await this.as(DistributionService, "viewer");
    return distribution.getDistribution({ parent: this.name, revision });
  }

  /** Wait until every worker has a revision in force. @param revision - the newest where 0 */
  async followed(revision = 0n): Promise<void> {
    // Others may change things meanwhile: it is the newest of now that is waited for.
    const goal = revision === 0n ? (await this.distribution()).revision : revision;
    await until(async () => {
      const { workers } = await this.distribution(goal);
      return workers.length > 0 && workers.every(({ reached }) => reached);
    }, `the workers are at revision ${goal}`);
  }
}

/** The same persona as vectors in the request: what a call that wears it from the registry must equal, bit for bit. */
export function inline({ bytes }: GovernedVersion, alphaHundredths = ALPHA) {
  const { manifest, directions } = decodeVector(bytes);
  const { modelChecksum } = manifest;
  const term = {
    alphaHundredths,
    modelChecksum,
    directions: manifest.layers.map((layer, index) => ({
      layer,
      direction: vectorTensor(directions.get(layer) as Float32Array),
      referenceNorm: manifest.referenceNorms[index] as number,
    })),
  };
  return { case: "inline" as const, value: { terms: [term], mode: Mode.ADD } };
}
