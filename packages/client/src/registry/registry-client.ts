import type { DescMessage, DescService, MessageInitShape } from "@bufbuild/protobuf";
import {
  type Activation,
  type Alias,
  type AliasTarget,
  type Approval,
  ApprovalService,
  type AuditEntry,
  AuditService,
  type BreakGlassUse,
  DistributionService,
  type ListActivationsRequestSchema,
  type ListAliasesRequestSchema,
  type ListAliasTargetsRequestSchema,
  type ListApprovalsRequestSchema,
  type ListAuditEntriesRequestSchema,
  type ListBreakGlassUsesRequestSchema,
  type ListModelsRequestSchema,
  type ListPersonaRevisionsRequestSchema,
  type ListPersonasRequestSchema,
  type ListTenantsRequestSchema,
  type ListVectorsRequestSchema,
  type ListVersionsRequestSchema,
  type Model,
  ModelService,
  type Persona,
  type PersonaRevision,
  PersonaService,
  type Tenant,
  TenantService,
  type Vector,
  VectorService,
  type Version,
} from "@persona-mesh/protocol/registry";
import { type CallOptions, type Client, createClient } from "@persona-mesh/service/client";
import { channelCredentials, type TlsOptions } from "../channel-credentials.ts";
import { everyPage } from "./every-page.ts";
import { retrying } from "./retry.ts";

export interface RegistryClientOptions {
  /** `host:port`, or any target that gRPC resolves. */
  readonly address: string;
  /** TLS; `{}` trusts the system's authorities. Without TLS a token goes to this machine only. @default plain text */
  readonly tls?: TlsOptions;
  /** Bearer token, or where to get one for each call. */
  readonly token?: string | (() => string | Promise<string>);
  /** Deadline of each try of a unary call, in milliseconds. @default 60,000 */
  readonly timeoutMs?: number;
}

/** A list request without its type name, every field optional. */
type ListInput<Desc extends DescMessage> = Exclude<MessageInitShape<Desc>, { readonly $typeName: string }> & {
  readonly $typeName?: never;
};

/**
 * The vector registry: tenants, models, vectors, personas, approvals, audit, and who has what.
 *
 * The services have their calls as the protocol has them. Unary calls are tried again where that may help, mutations with
 * one request id, made here where none is given. Lists are generators over all pages. Everything throws a ClientError with
 * code and stable reason.
 */
export class RegistryClient implements Disposable {
  readonly tenants: Client<typeof TenantService>;
  readonly models: Client<typeof ModelService>;
  readonly vectors: Client<typeof VectorService>;
  readonly personas: Client<typeof PersonaService>;
  readonly approvals: Client<typeof ApprovalService>;
  readonly audit: Client<typeof AuditService>;
  readonly distribution: Client<typeof DistributionService>;

  /** @throws ClientError CONFIG_INVALID when a token would leave this machine without TLS */
  constructor({ address, tls, token, timeoutMs }: RegistryClientOptions) {
    // One object for all services: connections are shared between clients with the same credentials.
    const credentials = channelCredentials(tls);
    const open = <Service extends DescService>(service: Service) =>
      retrying(
        service,
        createClient(service, address, credentials, {
          ...(token === undefined ? {} : { token }),
          ...(timeoutMs === undefined ? {} : { timeoutMs }),
          ...(tls?.serverName === undefined ? {} : { serverName: tls.serverName }),
        }),
      );
    this.tenants = open(TenantService);
    this.models = open(ModelService);
    this.vectors = open(VectorService);
    this.personas = open(PersonaService);
    this.approvals = open(ApprovalService);
    this.audit = open(AuditService);
    this.distribution = open(DistributionService);
  }

  listTenants(request: ListInput<typeof ListTenantsRequestSchema> = {}, call?: CallOptions): AsyncGenerator<Tenant> {
    return everyPage(
      (page) => this.tenants.listTenants(page, call),
      request,
      ({ tenants }) => tenants,
    );
  }

  listModels(request: ListInput<typeof ListModelsRequestSchema> = {}, call?: CallOptions): AsyncGenerator<Model> {
    return everyPage(
      (page) => this.models.listModels(page, call),
      request,
      ({ models }) => models,
    );
  }

  listVectors(request: ListInput<typeof ListVectorsRequestSchema>, call?: CallOptions): AsyncGenerator<Vector> {
    return everyPage(
      (page) => this.vectors.listVectors(page, call),
      request,
      ({ vectors }) => vectors,
    );
  }

  /** Newest first. */
  listVersions(request: ListInput<typeof ListVersionsRequestSchema>, call?: CallOptions): AsyncGenerator<Version> {
    return everyPage(
      (page) => this.vectors.listVersions(page, call),
      request,
      ({ versions }) => versions,
    );
  }

  listAliases(request: ListInput<typeof ListAliasesRequestSchema>, call?: CallOptions): AsyncGenerator<Alias> {
    return everyPage(
      (page) => this.vectors.listAliases(page, call),
      request,
      ({ aliases }) => aliases,
    );
  }

  /** Newest first. */
  listAliasTargets(
    request: ListInput<typeof ListAliasTargetsRequestSchema>,
    call?: CallOptions,
  ): AsyncGenerator<AliasTarget> {
    return everyPage(
      (page) => this.vectors.listAliasTargets(page, call),
      request,
      ({ targets }) => targets,
    );
  }

  listPersonas(request: ListInput<typeof ListPersonasRequestSchema>, call?: CallOptions): AsyncGenerator<Persona> {
    return everyPage(
      (page) => this.personas.listPersonas(page, call),
      request,
      ({ personas }) => personas,
    );
  }

  /** Newest first. */
  listPersonaRevisions(
    request: ListInput<typeof ListPersonaRevisionsRequestSchema>,
    call?: CallOptions,
  ): AsyncGenerator<PersonaRevision> {
    return everyPage(
      (page) => this.personas.listPersonaRevisions(page, call),
      request,
      ({ revisions }) => revisions,
    );
  }

  /** Newest first. */
  listActivations(
    request: ListInput<typeof ListActivationsRequestSchema>,
    call?: CallOptions,
  ): AsyncGenerator<Activation> {
    return everyPage(
      (page) => this.personas.listActivations(page, call),
      request,
      ({ activations }) => activations,
    );
  }

  /** Newest first. */
  listApprovals(request: ListInput<typeof ListApprovalsRequestSchema>, call?: CallOptions): AsyncGenerator<Approval> {
    return everyPage(
      (page) => this.approvals.listApprovals(page, call),
      request,
      ({ approvals }) => approvals,
    );
  }

  /** Newest first. */
  listBreakGlassUses(
    request: ListInput<typeof ListBreakGlassUsesRequestSchema>,
    call?: CallOptions,
  ): AsyncGenerator<BreakGlassUse> {
    return everyPage(
      (page) => this.approvals.listBreakGlassUses(page, call),
      request,
      ({ uses }) => uses,
    );
  }

  /** Newest first. */
  listAuditEntries(
    request: ListInput<typeof ListAuditEntriesRequestSchema>,
    call?: CallOptions,
  ): AsyncGenerator<AuditEntry> {
    return everyPage(
      (page) => this.audit.listAuditEntries(page, call),
      request,
      ({ entries }) => entries,
    );
  }

  /** Close the connections; calls that still run fail. */
  close(): void {
    const { tenants, models, vectors, personas, approvals, audit, distribution } = this;
    for (const service of [tenants, models, vectors, personas, approvals, audit, distribution]) service.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
