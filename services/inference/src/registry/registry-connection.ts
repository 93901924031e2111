import { DistributionService } from "@persona-mesh/protocol/registry";
import { type Client, ClientError, createClient, type Metrics, type TlsSource } from "@persona-mesh/service";

/** Where the registry is and who we are to it. */
export interface RegistryTarget {
  /** `host:port`, or any target that gRPC resolves. */
  readonly address: string;
  readonly tls: TlsSource;
  readonly trustDomain: string;
  /** Where calls to it are measured. @default nowhere */
  readonly meter?: Metrics["meter"];
}

export type DistributionClient = Client<typeof DistributionService>;

/** Name of the registry's service in the mesh, which its certificate must prove. */
export const REGISTRY_SERVICE = "vector-registry";

/**
 * The connection that the watch lives on, for the other calls too. Each watch has a new one: a connection that was lost
 * would be tried again by gRPC at times of its own, minutes later at worst.
 */
export class RegistryConnection implements Disposable {
  readonly #target: RegistryTarget;
  #client: DistributionClient | undefined;

  constructor(target: RegistryTarget) {
    this.#target = target;
  }

  /** A new connection in place of the one before, whose calls end. */
  open(): DistributionClient {
    this[Symbol.dispose]();
    const { address, tls, trustDomain, meter } = this.#target;
    const client = createClient(DistributionService, address, tls, {
      serverIdentity: { service: REGISTRY_SERVICE, trustDomain },
      ...(meter === undefined ? {} : { meter }),
    });
    this.#client = client;
    return client;
  }

  /** @throws ClientError UNAVAILABLE while there is none */
  get client(): DistributionClient {
    if (this.#client === undefined) throw ClientError.from(Object.assign(new Error("no watch"), UNAVAILABLE));
    return this.#client;
  }

  [Symbol.dispose](): void {
    this.#client?.close();
    this.#client = undefined;
  }
}

/** As gRPC says it: code 14. */
const UNAVAILABLE = { code: 14, details: "the registry is out of reach" };
