import { errors, type JWTVerifyGetKey, jwtVerify } from "jose";
import { z } from "zod";
import { ServiceError } from "../errors/service-error.ts";
import { type Caller, isRoleName, RESOURCE_ID } from "./caller.ts";
import { VerifiedTokens } from "./verified-tokens.ts";

/** Where verification keys come from. */
export interface KeySource {
  /** Picks the key that a token's header names. */
  readonly getKey: JWTVerifyGetKey;
}

export interface TokenRules {
  /** `iss` that a token must have. */
  readonly issuer: string;
  /** `aud` that a token must contain. */
  readonly audience: string;
}

/** Verifies the value of an `authorization` header. */
export type TokenVerifier = (authorization: readonly unknown[]) => Promise<Caller>;

/**
 * A verifier of JWT bearer tokens: signed (EdDSA or RS256) by a key of the source, for this audience and issuer, in
 * their time, with tenant and roles. The token itself appears in no message and no log.
 *
 * @throws ServiceError TOKEN_MISSING, TOKEN_EXPIRED or TOKEN_INVALID, from the returned function
 */
export function createTokenVerifier(keys: KeySource, rules: TokenRules): TokenVerifier {
  const verified = new VerifiedTokens(keys.getKey);
  return async (authorization) => {
    const token = bearerToken(authorization);
    const before = await verified.get(token);
    if (before !== undefined) return before;
    try {
      const { payload, key, protectedHeader } = await jwtVerify(token, keys.getKey, {
        algorithms: [...SIGNATURE_ALGORITHMS],
        issuer: rules.issuer,
        audience: rules.audience,
        clockTolerance: CLOCK_TOLERANCE_SECONDS,
        requiredClaims: ["exp", "sub", "tenant", "roles"],
      });
      const caller = callerOf(payload);
      const expires = 1000 * ((payload.exp ?? 0) + CLOCK_TOLERANCE_SECONDS);
      verified.add(token, { caller, key, header: protectedHeader, expires });
      return caller;
    } catch (error) {
      throw toTokenError(error);
    }
  };
}

/** Asymmetric only: whoever can verify a token must not be able to make one. */
export const SIGNATURE_ALGORITHMS = ["EdDSA", "RS256"] as const;

/** Clocks of machines with NTP differ by less; more would stretch every expiry. */
const CLOCK_TOLERANCE_SECONDS = 5;

/** Headers are read before the signature is checked: no caller of ours needs more. */
const MAX_TOKEN_LENGTH = 8192;

function bearerToken(authorization: readonly unknown[]): string {
  const [header] = authorization;
  if (header === undefined) {
    throw new ServiceError(
      "TOKEN_MISSING",
      "the call has no token, and no certificate that is trusted here; send the metadata `authorization: Bearer TOKEN`",
    );
  }
  if (authorization.length > 1 || typeof header !== "string") {
    throw new ServiceError("TOKEN_INVALID", "the call has more than one authorization");
  }
  if (header.length > MAX_TOKEN_LENGTH) {
    throw new ServiceError("TOKEN_INVALID", `the token is longer than ${MAX_TOKEN_LENGTH} characters`);
  }
  const [, token] = /^Bearer +([A-Za-z0-9._~+/=-]+)$/i.exec(header) ?? [];
  if (token === undefined) throw new ServiceError("TOKEN_INVALID", "the authorization is not a bearer token");
  return token;
}

const CLAIMS = z.object({
  sub: z.string().min(1).max(256),
  tenant: z.string().regex(RESOURCE_ID),
  roles: z.array(z.string().max(64)).max(32),
});

function callerOf(payload: unknown): Caller {
  const claims = CLAIMS.safeParse(payload);
  if (!claims.success) {
    const names = [...new Set(claims.error.issues.map((issue) => String(issue.path[0])))].join(", ");
    throw new ServiceError("TOKEN_INVALID", `the token's claims are not usable: ${names}`);
  }
  // Roles of other systems may be in the same token: they count for nothing here.
  return {
    subject: claims.data.sub,
    tenant: claims.data.tenant,
    roles: new Set(claims.data.roles.filter(isRoleName)),
  };
}

function toTokenError(error: unknown): ServiceError {
  if (error instanceof ServiceError) return error;
  if (error instanceof errors.JWTExpired) {
    return new ServiceError("TOKEN_EXPIRED", "the token has expired", { cause: error });
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    return new ServiceError("TOKEN_INVALID", `the token's claim "${error.claim}" is missing or not accepted here`, {
      cause: error,
    });
  }
  // Everything else jose finds is about the form, the algorithm, the key or the signature: one answer for all of them.
  if (error instanceof errors.JOSEError) {
    return new ServiceError("TOKEN_INVALID", "the token is malformed or not signed by a trusted key", { cause: error });
  }
  return new ServiceError("INTERNAL", "the token could not be checked", { cause: error });
}
