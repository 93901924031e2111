import { ServiceError } from "@persona-mesh/service";

/** Not there, or not the caller's: nobody learns which. */
export function notFound(resource: string): ServiceError {
  return new ServiceError("RESOURCE_NOT_FOUND", `"${resource}" is not there, or not the caller's to see`, {
    metadata: { resource },
  });
}

export function alreadyExists(resource: string): ServiceError {
  return new ServiceError("RESOURCE_EXISTS", `"${resource}" is there already`, { metadata: { resource } });
}

export function deleted(resource: string): ServiceError {
  return new ServiceError("RESOURCE_DELETED", `"${resource}" is deleted; undelete it first`, {
    metadata: { resource },
  });
}

/** What is to be deleted is in use; the referrers are named, at most ten of them. */
export function referenced(resource: string, referrers: readonly string[]): ServiceError {
  const shown = referrers.slice(0, 10).join(", ");
  const more = referrers.length > 10 ? ` and ${referrers.length - 10} more` : "";
  return new ServiceError("RESOURCE_REFERENCED", `"${resource}" is used by ${shown}${more}`, {
    metadata: { resource },
  });
}
