import type { DescService } from "@bufbuild/protobuf";
import { InferenceClient } from "@persona-mesh/client";
import {
  type Client,
  createClient,
  createLogger,
  type DevKeys,
  type DevTokenClaims,
  ensureDevKeys,
  openDevTls,
  signDevToken,
  type TlsSource,
} from "@persona-mesh/service";

/** Clients of a mesh that runs on this machine, with its development keys; closed together. */
export class Callers implements Disposable {
  readonly #keys: DevKeys;
  readonly #tls: TlsSource;
  readonly #opened = new DisposableStack();

  static async open(dataDir: string): Promise<Callers> {
    return new Callers(
      await ensureDevKeys(dataDir),
      await openDevTls(dataDir, "bench", createLogger("bench", "silent")),
    );
  }

  private constructor(keys: DevKeys, tls: TlsSource) {
    this.#keys = keys;
    this.#tls = tls;
    this.#opened.defer(() => tls.close());
  }

  /** On a connection of its own. @param claims - an admin of the platform where nothing else is said */
  async registry<Service extends DescService>(
    service: Service,
    address: string,
    claims: Partial<DevTokenClaims> = {},
  ): Promise<Client<Service>> {
    return this.#opened.use(createClient(service, address, this.#tls, { token: await this.#token(claims) }));
  }

  async worker(address: string, claims: Partial<DevTokenClaims>): Promise<InferenceClient> {
    const { ca } = this.#tls.current;
    const tls = ca === undefined ? {} : { ca };
    return this.#opened.use(new InferenceClient({ address, token: await this.#token(claims), tls }));
  }

  [Symbol.dispose](): void {
    this.#opened.dispose();
  }

  #token(claims: Partial<DevTokenClaims>): Promise<string> {
    return signDevToken(this.#keys, { subject: "bench", tenant: "platform", roles: ["admin"], ...claims });
  }
}
