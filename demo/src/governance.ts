import { randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { status } from "@grpc/grpc-js";
import { encodeExportLine, readLines, verifyExport } from "@persona-mesh/audit";
import type { ExtractedVector } from "@persona-mesh/client";
import { Mode } from "@persona-mesh/protocol";
import {
  ApprovalDecision,
  ApprovalService,
  AuditService,
  DistributionService,
  ModelService,
  PersonaService,
  TenantService,
  VectorService,
} from "@persona-mesh/protocol/registry";
import {
  type Client,
  ClientError,
  createClient,
  type DevKeys,
  PLATFORM_TENANT,
  type RoleName,
  signDevToken,
  type TlsSource,
} from "@persona-mesh/service";
import { toHundredths } from "@persona-mesh/steering";

/** A persona as the demo makes it: one vector at one strength. */
export interface LearnedPersona {
  readonly tone: string;
  readonly vector: ExtractedVector;
  /** Canonical JSON of the pairs that it was learned from. */
  readonly pairsJson: string;
  readonly alpha: number;
  readonly mode: "ADD" | "ADD_RENORM";
  /** Measured on the worker before anyone is asked to approve. */
  readonly figures: Readonly<Record<string, number>>;
}

export interface RegistryAccess {
  readonly address: string;
  readonly tls: TlsSource;
  readonly keys: DevKeys;
  /** Where the registry keeps the signed roots, outside its database. */
  readonly rootsFile: string;
  readonly signal: AbortSignal;
}

/** People of the demo: who submits is not who approves. */
const SUBMITTER = "alice";
const APPROVER = "bob";

/** Longest wait for workers to follow. Milliseconds. */
const FOLLOW_TIMEOUT = 30_000;

/** One tenant's people at the registry. */
export class Governance implements Disposable {
  readonly tenant: string;
  readonly #access: RegistryAccess;
  readonly #clients: Disposable[] = [];

  constructor(access: RegistryAccess, tenant: string) {
    this.#access = access;
    this.tenant = tenant;
  }

  [Symbol.dispose](): void {
    for (const client of this.#clients) client[Symbol.dispose]();
  }

  get #parent(): string {
    return `tenants/${this.tenant}`;
  }

  /** The platform makes the tenant, and registers the model where nobody has. */
  async create(model: ExtractedVector["model"]): Promise<void> {
    const platform = { subject: "operations", tenant: PLATFORM_TENANT };
    const tenants = await this.#client(TenantService, "admin", platform);
    await tenants.createTenant({
      tenantId: this.tenant,
      tenant: { displayName: this.tenant },
      requestId: randomUUID(),
    });
    const models = await this.#client(ModelService, "admin", platform);
    await models
      .createModel({
        modelId: "starter",
        requestId: randomUUID(),
        model: {
          modelChecksum: model.modelChecksum,
          architecture: model.architecture,
          layers: model.layers,
          hiddenSize: model.hiddenSize,
          vocabularySize: model.vocabularySize,
          tokenizerDigest: model.tokenizerDigest,
        },
      })
      .catch(unless(status.ALREADY_EXISTS));
  }

  /** Publish a version with where it comes from and what it was seen to do. @returns its name */
  async publish(learned: LearnedPersona): Promise<string> {
    const vectors = await this.#client(VectorService, "admin");
    await vectors
      .createVector({ parent: this.#parent, vectorId: learned.tone, requestId: randomUUID() })
      .catch(unless(status.ALREADY_EXISTS));
    const { version } = await vectors.publishVersion({
      parent: `${this.#parent}/vectors/${learned.tone}`,
      content: learned.vector.bytes,
      digest: learned.vector.digest,
      provenance: { pairsJson: learned.pairsJson, tokenizerDigest: learned.vector.model.tokenizerDigest },
      evaluation: {
        alphaMinHundredths: 0,
        alphaMaxHundredths: toHundredths(learned.alpha),
        figures: { ...learned.figures },
      },
      requestId: randomUUID(),
    });
    return version?.name ?? "";
  }

  /** @param by - the submitter is refused */
  async approve(version: string, by = APPROVER): Promise<void> {
    const approvals = await this.#client(ApprovalService, "approver", { subject: by });
    await approvals.createApproval({
      parent: this.#parent,
      version,
      decision: ApprovalDecision.APPROVE,
      reason: "figures and samples read",
      requestId: randomUUID(),
    });
  }

  /** @returns why the submitter cannot approve */
  approveAsSubmitter(version: string): Promise<string> {
    return refusalOf(this.approve(version, SUBMITTER));
  }

  async setProduction(tone: string, version: string): Promise<bigint> {
    const vectors = await this.#client(VectorService, "admin");
    const { revision } = await vectors.setAlias({
      alias: { name: `${this.#parent}/vectors/${tone}/aliases/production`, version },
      reason: "demo",
      requestId: randomUUID(),
    });
    return revision;
  }

  /** @returns why an unapproved version cannot go there */
  setProductionTooEarly(tone: string, version: string): Promise<string> {
    return refusalOf(this.setProduction(tone, version));
  }

  async rollBack(tone: string): Promise<bigint> {
    const vectors = await this.#client(VectorService, "operator");
    const { revision } = await vectors.rollbackAlias({
      name: `${this.#parent}/vectors/${tone}/aliases/production`,
      reason: "the one before was better",
      requestId: randomUUID(),
    });
    return revision;
  }

  /** A persona that follows the vector's production alias. */
  async createPersona({ tone, alpha, mode }: LearnedPersona): Promise<void> {
    const personas = await this.#client(PersonaService, "admin");
    await personas.createPersona({
      parent: this.#parent,
      personaId: tone,
      persona: {
        spec: {
          mode: mode === "ADD_RENORM" ? Mode.ADD_RENORM : Mode.ADD,
          terms: [
            { vector: `${this.#parent}/vectors/${tone}/aliases/production`, alphaHundredths: toHundredths(alpha) },
          ],
        },
      },
      requestId: randomUUID(),
    });
  }

  async activate(tone: string): Promise<bigint> {
    const personas = await this.#client(PersonaService, "operator");
    const { revision } = await personas.activatePersona({
      name: `${this.#parent}/personas/${tone}`,
      requestId: randomUUID(),
    });
    return revision;
  }

  /** Wait until every worker has a revision. */
  async followed(revision: bigint): Promise<void> {
    const distribution = await this.#client(DistributionService, "viewer");
    for (const end = performance.now() + FOLLOW_TIMEOUT; ; ) {
      const { workers } = await distribution.getDistribution({ parent: this.#parent, revision });
      if (workers.length > 0 && workers.every(({ reached }) => reached)) return;
      if (performance.now() > end) throw new Error(`no worker reached revision ${revision}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Export the tenant's audit and verify it against the roots outside the database. @returns entries, or throws what is wrong */
  async verifyAudit(): Promise<bigint> {
    const audit = await this.#client(AuditService, "approver", { subject: APPROVER });
    const { parent, signal } = { parent: this.#parent, signal: this.#access.signal };
    async function* lines() {
      for await (const item of audit.exportAudit({ parent }, { signal })) yield encodeExportLine(item);
    }
    const report = await verifyExport(lines(), {
      tenant: this.tenant,
      trustedRoots: readLines(createReadStream(this.#access.rootsFile)),
    });
    if (!report.ok) throw new Error(`the audit of ${this.tenant} is broken: ${report.problems[0]?.reason}`);
    return report.chains.CHANGES.entries + report.chains.READS.entries;
  }

  async #client<Service extends Parameters<typeof createClient>[0]>(
    service: Service,
    role: RoleName,
    { subject = SUBMITTER, tenant = this.tenant }: { readonly subject?: string; readonly tenant?: string } = {},
  ): Promise<Client<Service>> {
    const { address, tls, keys } = this.#access;
    const token = await signDevToken(keys, { subject, tenant, roles: [role] });
    const client = createClient(service, address, tls, { token });
    this.#clients.push(client);
    return client;
  }
}

/** Let one status pass: what is there already is fine. */
function unless(code: status): (error: unknown) => void {
  return (error) => {
    if (ClientError.from(error).code !== code) throw error;
  };
}

/** The reason of a call that must be refused. */
async function refusalOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return ClientError.from(error).reason;
  }
  throw new Error("a call was let through that must be refused");
}
