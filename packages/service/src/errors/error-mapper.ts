import { isReason, type Reason } from "./reasons.ts";
import { ServiceError } from "./service-error.ts";

/** Turns an error that some package throws into a {@link ServiceError}; undefined when it does not know the error. */
export type ErrorMapper = (error: unknown) => ServiceError | undefined;

/** An error class of a package that knows no gRPC: a stable reason of its own, and numbers and names behind it. */
type ReasonedError<Name extends string> = Error & {
  readonly reason: Name;
  readonly details?: Readonly<Record<string, string | number>>;
};

/**
 * Map errors of a class by their `reason`. Reasons that are in the table stay; the others must all be translated, which
 * the compiler checks, so that a reason added to the package cannot become INTERNAL by oversight. The caller gets a
 * translated reason's own name in the metadata as `detail`.
 *
 * @example mapByReason(SteeringError, { VECTOR_NOT_UNIT: "VECTOR_FORMAT", TERM_COUNT: "INVALID_ARGUMENT", … })
 */
export function mapByReason<Name extends string>(
  ErrorClass: abstract new (...args: never[]) => ReasonedError<Name>,
  translation: Readonly<Record<Exclude<Name, Reason>, Reason>>,
): ErrorMapper {
  return (error) => {
    if (!(error instanceof ErrorClass)) return undefined;
    const { details = {}, message, reason: own } = error as ReasonedError<Name>;
    const reason = isReason(own) ? own : translation[own as Exclude<Name, Reason>];
    if (reason === undefined || reason === "INTERNAL") return undefined;
    const metadata = Object.fromEntries(Object.entries(details).map(([key, value]) => [key, String(value)]));
    return new ServiceError(reason, message, {
      metadata: reason === own ? metadata : { ...metadata, detail: own },
      cause: error,
    });
  };
}

/**
 * What the caller gets to see of anything that was thrown. An error that nobody mapped is a defect: the caller learns
 * only that, and the cause stays with the result for the log.
 */
export function toServiceError(error: unknown, mappers: readonly ErrorMapper[] = []): ServiceError {
  if (error instanceof ServiceError) return error;
  for (const mapper of mappers) {
    const mapped = mapper(error);
    if (mapped !== undefined) return mapped;
  }
  return new ServiceError("INTERNAL", "internal error; the server's log has the cause under this request id", {
    cause: error,
  });
}
