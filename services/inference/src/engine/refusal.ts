import { ServiceError } from "@persona-mesh/service";
import type { Refused } from "../scheduler/index.ts";

/** The error that a refused submission is for its caller. */
export function refusalError(refusal: Refused): ServiceError {
  switch (refusal.reason) {
    case "QUEUE_FULL":
      return new ServiceError(
        "QUEUE_FULL",
        refusal.whose === "tenant"
          ? "as many requests of the tenant wait already as may"
          : "as many requests wait already as the worker accepts",
        { metadata: { whose: refusal.whose } },
      );
    case "RATE_LIMITED":
      return new ServiceError("RATE_LIMITED", "the tenant has used its tokens per minute", {
        retryDelayMs: refusal.retryAfterMillis,
      });
    case "DRAINING":
      return new ServiceError("DRAINING", "the worker is shutting down");
  }
}
