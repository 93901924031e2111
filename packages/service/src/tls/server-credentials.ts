import { ServerCredentials } from "@grpc/grpc-js";
import type { TlsSource } from "./tls-source.ts";

/**
 * The server's side of TLS with material that changes while the server runs.
 *
 * grpc-js itself can demand certificates of clients or not ask for any. Services have one and people have none, so this
 * also asks without demanding: a client without a certificate, or with one that does not verify, gets a connection but no
 * identity. grpc-js tells an interceptor of a peer certificate only where the connection verified it.
 */
export class RotatingServerCredentials extends ServerCredentials {
  /**
   * @param clients - `required`: handshakes without a certificate of a trusted authority fail. Either way only the
   *   source's authorities count, never the system's; without any, no certificate is asked for
   */
  constructor(source: TlsSource, clients: "required" | "optional") {
    const asks = source.current.ca !== undefined;
    super(asks ? { requestCert: true, rejectUnauthorized: clients === "required" } : {}, { ...source.current });
    source.onChange((material) => this.updateSecureContextOptions({ ...material }));
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other;
  }
}
