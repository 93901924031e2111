import { serviceIdentityOf } from "../tls/service-identity.ts";
import { type Caller, PLATFORM_TENANT } from "./caller.ts";
import type { TokenVerifier } from "./token-verifier.ts";

/** What a call shows of its caller. */
export interface Credentials {
  /** Values of the `authorization` header. */
  readonly authorization: readonly unknown[];
  /** The peer's certificate, DER, where the connection verified it up to a trusted authority. */
  readonly certificate: () => Uint8Array | undefined;
}

/** Finds out who calls. @throws ServiceError TOKEN_MISSING, TOKEN_EXPIRED, TOKEN_INVALID, KEYS_UNAVAILABLE or CERTIFICATE_INVALID */
export type Authenticator = (credentials: Credentials) => Promise<Caller>;

/**
 * Tokens first: where there is one it decides, good or bad, so that a person who calls through a service's connection, or
 * with a stale token, never turns into the service. Without one, a verified certificate does.
 */
export function createAuthenticator(verifyToken: TokenVerifier, trustDomain: string): Authenticator {
  return async ({ authorization, certificate }) => {
    const presented = authorization.length === 0 ? certificate() : undefined;
    if (presented === undefined) return verifyToken(authorization);
    const { id, service } = serviceIdentityOf(presented, trustDomain, Date.now());
    return { subject: id, tenant: PLATFORM_TENANT, roles: new Set(["service"]), service };
  };
}
