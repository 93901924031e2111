import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from "jose";
import { z } from "zod";

/**
 * The keys of a JSON Web Key Set, as text.
 *
 * @param others - keys that could not verify our tokens: in a set of one's own they are a mistake, an issuer publishes
 *   them for others
 * @throws Error that says why they cannot be used
 */
export function parseKeys(text: string, others: "refuse" | "skip"): JWTVerifyGetKey {
  try {
    const given: unknown = JSON.parse(text);
    const jwks: unknown = JWKS.parse(others === "skip" ? ours(given) : given);
    return createLocalJWKSet(jwks as JSONWebKeySet);
  } catch (error) {
    const why =
      error instanceof z.ZodError
        ? z.prettifyError(error)
        : error instanceof errors.JOSEError || error instanceof SyntaxError
          ? "it is not a JSON Web Key Set"
          : (error as Error).message;
    throw new Error(why, { cause: error });
  }
}

function ours(given: unknown): unknown {
  const { keys } = z.object({ keys: z.array(z.looseObject({ kty: z.unknown() })) }).parse(given);
  return { keys: keys.filter(({ kty }) => KEY_TYPES.includes(kty as never)) };
}

const KEY_TYPES = ["OKP", "RSA"] as const;

const JWKS = z.object({
  keys: z
    .array(
      z.looseObject({
        kty: z.enum(KEY_TYPES, "only Ed25519 and RSA keys are accepted"),
        // A set for verifiers that holds private keys has already leaked them.
        d: z.undefined("a private key does not belong here").optional(),
      }),
    )
    .min(1, "it has no keys")
    .max(100),
});
