import type { Reason } from "./reasons.ts";
import { ServiceError } from "./service-error.ts";

/** Turns an error that some package throws into a {@link ServiceError}; undefined when it does not know the error. */
export type ErrorMapper = (error: unknown) => ServiceError | undefined;

/** An error class of a package that knows no gRPC but names its reasons as the table of reasons does. */
type ReasonedError = Error & { readonly reason: Reason; readonly metadata?: Readonly<Record<string, string>> };

/**
 * Map errors of the given classes by their `reason`. That every reason of such a class is in the table is checked by
 * the compiler at the call of this function.
 */
export function mapByReason(...classes: readonly (abstract new (...args: never[]) => ReasonedError)[]): ErrorMapper {
  return (error) => {
    for (const ErrorClass of classes) {
      if (error instanceof ErrorClass) {
        return new ServiceError(error.reason, error.message, { metadata: error.metadata ?? {}, cause: error });
      }
    }
    return undefined;
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
